package blocks_test

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

var update = flag.Bool("update", false, "write the golden files anew")

const vectors = "../../testdata/blocks"

// sample is the map of an image of three blocks, the second of which is zero, in frames
// of two.
func sample(t testing.TB) *blocks.Map {
	image := make([]byte, 3*verity.BlockSize)
	image[0], image[2*verity.BlockSize] = 1, 2
	salt := release.Salt{0xa5, 0x5a}
	leaf, root := verity.HashSpan(salt, image)
	m, err := blocks.New(deltas.Identity{Size: int64(len(image)), Root: root, Salt: salt}, 2, leaf[:3*32],
		[]int64{5, 3}, []release.Digest{release.DigestOf([]byte("12345")), release.DigestOf([]byte("678"))})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMapHasOneGoldenEncoding(t *testing.T) {
	got := sample(t).Encode()
	path := filepath.Join(vectors, "sample.blk")
	if *update {
		if err := os.MkdirAll(vectors, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	m, err := blocks.Parse(bytes.Clone(want))
	if err != nil {
		t.Fatal(err)
	}
	if f := m.Frame(1); f.Offset != 8192 || f.Length != 4096 || f.PayloadOffset != int64(len(want))+5 || f.PayloadLength != 3 || m.Size() != int64(len(want))+8 {
		t.Errorf("got frame %+v of %d bytes", f, m.Size())
	}
	if _, err := m.Segment(1, []byte("678")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"679", "67", "6789", ""} {
		if _, err := m.Segment(1, []byte(bad)); err == nil {
			t.Errorf("payload %q: accepted", bad)
		}
	}
}

func TestMapRefusesEverythingElse(t *testing.T) {
	good := sample(t).Encode()
	for n := range good {
		if _, err := blocks.Parse(bytes.Clone(good[:n])); err == nil {
			t.Fatalf("truncated at %d: accepted", n)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[n] ^= 1 << bit
			if _, err := blocks.Parse(bad); err == nil {
				t.Fatalf("byte %d, bit %d: accepted", n, bit)
			}
			// With its own digest right again, only what the fields mean can tell.
			if m, err := blocks.Parse(seal(bad)); err == nil && !bytes.Equal(m.Encode(), bad) {
				t.Fatalf("byte %d, bit %d: two spellings", n, bit)
			}
		}
	}
	if _, err := blocks.Parse(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many: accepted")
	}
	id := deltas.Identity{Size: 3 * verity.BlockSize, Root: release.Digest{1}}
	for name, make := range map[string]func() (*blocks.Map, error){
		"no root": func() (*blocks.Map, error) {
			return blocks.New(deltas.Identity{Size: id.Size}, 2, make([]byte, 96), []int64{1, 1}, make([]release.Digest, 2))
		},
		"hash missing": func() (*blocks.Map, error) {
			return blocks.New(id, 2, make([]byte, 64), []int64{1, 1}, make([]release.Digest, 2))
		},
		"frame missing": func() (*blocks.Map, error) {
			return blocks.New(id, 2, make([]byte, 96), []int64{1}, make([]release.Digest, 1))
		},
		"empty payload": func() (*blocks.Map, error) {
			return blocks.New(id, 2, make([]byte, 96), []int64{1, 0}, make([]release.Digest, 2))
		},
		"frame of nothing": func() (*blocks.Map, error) {
			return blocks.New(id, 0, make([]byte, 96), []int64{1, 1}, make([]release.Digest, 2))
		},
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// seal makes the digest at the end of a head right.
func seal(b []byte) []byte {
	sum := release.DigestOf(b[:len(b)-32])
	copy(b[len(b)-32:], sum[:])
	return b
}

func TestMatchesComparesAllThatAManifestSays(t *testing.T) {
	m := sample(t)
	id := m.Target()
	img := release.Image{Size: id.Size, Root: id.Root, Salt: id.Salt}
	blob := release.Blob{Size: m.Size()}
	if err := m.Matches(img, blob); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*release.Image, *release.Blob){
		"size": func(i *release.Image, _ *release.Blob) { i.Size += verity.BlockSize },
		"root": func(i *release.Image, _ *release.Blob) { i.Root[0] ^= 1 },
		"salt": func(i *release.Image, _ *release.Blob) { i.Salt = release.Salt{1} },
		"blob": func(_ *release.Image, b *release.Blob) { b.Size++ },
	} {
		i, b := img, blob
		change(&i, &b)
		if m.Matches(i, b) == nil {
			t.Errorf("other %s: accepted", name)
		}
	}
}

// The price that is told is what is fetched, every block that is lacking lies in a fetched
// frame, and blocks that a base has are found wherever they lie.
func TestComparisonFetchesWhatIsLackingAndNoMoreThanItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 300).Draw(t, "blocks")
		frame := rapid.SampledFrom([]int{1, 2, 4, 64}).Draw(t, "frame")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		hashes := make([]byte, 32*n)
		for i := range hashes {
			hashes[i] = byte(r.Uint32())
		}
		frames := (n + frame - 1) / frame
		lengths, digests := make([]int64, frames), make([]release.Digest, frames)
		for i := range lengths {
			lengths[i] = 1 + int64(r.IntN(9000))
		}
		m, err := blocks.New(deltas.Identity{Size: int64(n) * verity.BlockSize, Root: release.Digest{1}}, frame, hashes, lengths, digests)
		if err != nil {
			t.Fatal(err)
		}
		c := m.Compare()
		have := map[int]int{}
		for i := range n {
			if r.IntN(3) > 0 {
				c.AddBase(1000+i, hashes[32*i:32*i+32])
				have[i] = 1000 + i
			}
		}
		for i := range n {
			if want, ok := have[i]; ok && c.From(i) != want || !ok && c.From(i) != blocks.Lacking {
				t.Fatalf("block %d: got %d", i, c.From(i))
			}
		}
		fetched := map[int]bool{}
		var sum int64
		requests := 0
		for i := 0; i < frames; i++ {
			if !c.Needed(i) || fetched[i] {
				continue
			}
			end := c.Batch(i)
			requests++
			for k := i; k < end; k++ {
				fetched[k] = true
				sum += lengths[k]
			}
		}
		if size, count := c.Download(); size != sum || count != requests {
			t.Fatalf("got %d bytes in %d requests, want %d in %d", size, count, sum, requests)
		}
		for i := range n {
			if _, ok := have[i]; !ok && !fetched[m.FrameOf(i)] {
				t.Fatalf("block %d is lacking and not fetched", i)
			}
		}
	})
}

func TestZerosAreNeverFetched(t *testing.T) {
	c := sample(t).Compare()
	if c.From(0) != blocks.Lacking || c.From(1) != blocks.Zero || c.From(2) != blocks.Lacking {
		t.Errorf("got %d, %d, %d", c.From(0), c.From(1), c.From(2))
	}
	c.Keep(0)
	c.Keep(2)
	if size, requests := c.Download(); size != 0 || requests != 0 {
		t.Errorf("everything is there: got %d bytes in %d requests", size, requests)
	}
	c.Lack(2)
	if size, _ := c.Download(); size != 3 {
		t.Errorf("got %d bytes, want 3", size)
	}
}

func TestHeadsStayWithinWhatAHostReads(t *testing.T) {
	for size, want := range map[int64]int{464 << 20: 2, 2 << 30: 2, 3 << 30: 8, 4 << 30: 16, 64 << 30: 0} {
		if got := blocks.FrameBlocks(size); got != want {
			t.Errorf("%d bytes: got frames of %d blocks, want %d", size, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 32 {
			b = seal(bytes.Clone(b))
		}
		m, err := blocks.Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), b) {
			t.Fatal("two spellings")
		}
		for i := range m.Frames() {
			if f := m.Frame(i); f.Length < 1 || f.PayloadLength < 1 || f.PayloadOffset+f.PayloadLength > m.Size() || f.Offset+f.Length > m.Target().Size {
				t.Fatalf("frame %d: %+v", i, f)
			}
		}
		m.Compare().Download()
	})
}
