package verity

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/release"
)

// testSizes have one to three levels, and last spans of one block, some and all.
var testSizes = []int64{
	2 * BlockSize,
	3 * BlockSize,
	NodeSpan - BlockSize,
	NodeSpan,
	NodeSpan + BlockSize,
	5*NodeSpan + 7*BlockSize,
	fanOut * NodeSpan,
	fanOut*NodeSpan + BlockSize,
}

func noise(size int64) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size >> 12)})
	_, _ = r.Read(b)
	return b
}

// withTree returns the image with its tree behind it, and the root.
func withTree(t *testing.T, image []byte, salt release.Salt) ([]byte, release.Digest) {
	t.Helper()
	size := int64(len(image))
	out := append(bytes.Clone(image), make([]byte, TreeSize(size))...)
	b := NewBuilder(size, salt)
	for i := range Spans(size) {
		at := int64(i) * NodeSpan
		leaf, node := HashSpan(salt, image[at:at+int64(SpanLength(size, i))])
		copy(out[LeafOffset(size, i):], leaf[:])
		b.Add(node)
	}
	root, upper, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	next := size
	for _, block := range upper {
		if block.Offset != next {
			t.Errorf("hash block at %d, want %d", block.Offset, next)
		}
		copy(out[block.Offset:], block.Data[:])
		next += BlockSize
	}
	if first := LeafOffset(size, 0); next != first {
		t.Errorf("upper levels end at %d, leaves begin at %d", next, first)
	}
	if end := LeafOffset(size, Spans(size)-1) + BlockSize; end != int64(len(out)) {
		t.Errorf("tree ends at %d, want %d", end, len(out))
	}
	return out, root
}

func needVeritysetup(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"veritysetup", "/usr/sbin/veritysetup"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	needs.Tools(t, "veritysetup")
	return ""
}

func TestTreeAndRootAreWhatVeritysetupMakes(t *testing.T) {
	veritysetup := needVeritysetup(t)
	for _, size := range testSizes {
		for _, salt := range []release.Salt{bytes.Repeat([]byte{0xa5}, 32), nil, {7}} {
			if size > 10*NodeSpan && len(salt) < 32 {
				continue // large images take long, and the salt is in one place
			}
			t.Run(fmt.Sprintf("%d blocks, salt of %d", size/BlockSize, len(salt)), func(t *testing.T) {
				image := noise(size)
				got, root := withTree(t, image, salt)
				path := filepath.Join(t.TempDir(), "image")
				if err := os.WriteFile(path, image, 0o600); err != nil {
					t.Fatal(err)
				}
				hex := fmt.Sprintf("%x", []byte(salt))
				if hex == "" {
					hex = "-"
				}
				options := []string{
					"--no-superblock", "--format=1", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096",
					"--salt=" + hex, fmt.Sprintf("--data-blocks=%d", size/BlockSize), fmt.Sprintf("--hash-offset=%d", size),
				}
				out, err := exec.Command(veritysetup, append([]string{"format", path, path}, options...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("veritysetup format: %v\n%s", err, out)
				}
				if !strings.Contains(string(out), root.String()) {
					t.Errorf("got root %s, veritysetup says\n%s", root, out)
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("the tree differs from that of veritysetup")
				}
				if err := os.WriteFile(path, got, 0o600); err != nil {
					t.Fatal(err)
				}
				args := append([]string{"verify", path, path, root.String()}, options...)
				if out, err := exec.Command(veritysetup, args...).CombinedOutput(); err != nil {
					t.Errorf("veritysetup verify: %v\n%s", err, out)
				}
			})
		}
	}
}

// The root stands in signed manifests, so it must never change.
func TestRootIsFixed(t *testing.T) {
	image := make([]byte, NodeSpan+BlockSize)
	for i := range image {
		image[i] = byte(i / BlockSize)
	}
	const want = "83ffbe2a9a5b90409b5ad5ada1881a71cca772a2c5952aedd2c5d8ffd211012f"
	got, err := Root(bytes.NewReader(image), int64(len(image)), release.Salt{1, 2, 3})
	if err != nil || got.String() != want {
		t.Errorf("got %s, want %s (%v)", got, want, err)
	}
}

func TestEveryBlockDecidesTheRoot(t *testing.T) {
	const size = NodeSpan + 3*BlockSize
	image := noise(size)
	want, err := Root(bytes.NewReader(image), size, nil)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < size; at += BlockSize {
		image[at+at%97] ^= 1
		got, err := Root(bytes.NewReader(image), size, nil)
		if err != nil || got == want {
			t.Fatalf("block %d is not in the root (%v)", at/BlockSize, err)
		}
		image[at+at%97] ^= 1
	}
}

func TestSizesWithoutATreeAreRefused(t *testing.T) {
	for _, size := range []int64{-BlockSize, 0, 1, BlockSize, MinSize + 1, release.MaxImageSize + BlockSize} {
		if CheckSize(size) == nil {
			t.Errorf("%d: got no error", size)
		}
		if _, err := Root(bytes.NewReader(nil), size, nil); err == nil {
			t.Errorf("root of %d bytes: got no error", size)
		}
	}
}

func TestShortImageIsAnError(t *testing.T) {
	if _, err := Root(bytes.NewReader(make([]byte, MinSize)), MinSize+BlockSize, nil); err == nil {
		t.Error("got no error")
	}
}

func TestMissingNodeIsAnError(t *testing.T) {
	b := NewBuilder(3*NodeSpan, nil)
	b.Add(release.Digest{1})
	b.Add(release.Digest{2})
	if _, _, err := b.Finish(); err == nil {
		t.Error("2 nodes for 3 spans: got no error")
	}
}

func BenchmarkHashSpan(b *testing.B) {
	data := noise(NodeSpan)
	salt := release.Salt(bytes.Repeat([]byte{1}, 32))
	b.SetBytes(NodeSpan)
	b.ReportAllocs()
	for b.Loop() {
		HashSpan(salt, data)
	}
}
