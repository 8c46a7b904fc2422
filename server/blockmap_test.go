package server

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/release"
)

func TestPublishMakesABlockMapThatSaysWhatAHostLacks(t *testing.T) {
	s, _ := newSite(t)
	first := randomImage(t, 2_000_000, 1)
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(randomImage(t, 3*release.BlockSize, 2))
	if err != nil {
		t.Fatal(err)
	}
	in := releaseOf(t, "1.0", first)
	in.BlocksFrom = 1
	mustPublish(t, s, in)
	in = releaseOf(t, "1.1", writeImage(t, slices.Concat(fresh, b)))
	in.BlocksFrom = 1
	r := mustPublish(t, s, in)
	img := r.Images[0]
	if img.Map < 3000 || img.Blocks < img.Bytes || img.Map > 20_000 {
		t.Errorf("got a map of %d bytes, %d with its frames", img.Map, img.Blocks)
	}
	// Two frames of two blocks hold the three that are new; 1.0's last block is padded alike.
	if got, least, most := r.Routes[0].Blocks, img.Map+3*release.BlockSize, img.Map+5*release.BlockSize; got < least || got > most {
		t.Errorf("without a delta: got %d bytes, want %d to %d", got, least, most)
	}
	mustVerify(t, s)
	again := releaseOf(t, "1.2", first)
	again.BlocksFrom = -1
	if r := mustPublish(t, s, again); r.Images[0].Blocks != 0 {
		t.Errorf("not asked for, and made: %+v", r.Images[0])
	}
}

func TestADamagedBlockMapIsFoundAndMadeAgain(t *testing.T) {
	s, _ := newSite(t)
	in := releaseOf(t, "1.0", randomImage(t, 200_000, 1))
	in.BlocksFrom = 1
	mustPublish(t, s, in)
	manifest, err := s.newestManifest(mustList(t, s), "pc")
	if err != nil {
		t.Fatal(err)
	}
	path := s.repo(release.BlobPath(manifest.Images[0].Blocks.SHA256))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)-1] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(t.Context(), false); err != nil || r.Damaged() == nil {
		t.Errorf("verify of a damaged block map: got %v, %v", r, err)
	}
	in.Attempt = 2
	in.Version = version(t, "1.1")
	mustPublish(t, s, in)
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
		t.Errorf("the block map was not made again: %v", err)
	}
	mustVerify(t, s)
}

func mustList(t *testing.T, s *Site) []listed {
	t.Helper()
	set, err := s.metadata()
	if err != nil {
		t.Fatal(err)
	}
	list, err := releases(set, "stable")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// erofs is an image with as much of a superblock as is looked at.
func erofs(t *testing.T, change func(b []byte)) string {
	t.Helper()
	b := make([]byte, 200*release.BlockSize)
	r := rand.NewChaCha8([32]byte{7})
	r.Read(b)
	copy(b[1024:], "\xe2\xe1\xf5\xe0")
	change(b)
	return writeImage(t, b)
}

func TestPublishWarnsOfImagesThatChangeWithEachBuild(t *testing.T) {
	everywhere := func(n, size int) func([]byte) {
		return func(b []byte) {
			for i := range n {
				for k := range size {
					b[(i+1)*release.BlockSize+100+k] ^= 0xff
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func([]byte)
		want   string
	}{
		"content alone":       {everywhere(150, 2000), ""},
		"a few small changes": {everywhere(20, 4), ""},
		"times in inodes":     {everywhere(150, 4), "150 of the 150 blocks that differ in place differ by 4 bytes"},
		"other UUID":          {func(b []byte) { b[1024+50] ^= 1 }, "UUID changes with each build"},
		"other build time":    {func(b []byte) { b[1024+24] ^= 1 }, "build time changes"},
	} {
		s, _ := newSite(t)
		mustPublish(t, s, releaseOf(t, "1.0", erofs(t, func([]byte) {})))
		r := mustPublish(t, s, releaseOf(t, "1.1", erofs(t, c.change)))
		got := strings.Join(r.Warnings, "\n")
		if c.want == "" && strings.Contains(got, "image root") || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%s: got warnings %q, want %q", name, got, c.want)
		}
	}
}
