package mkfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/erofs"
	"github.com/twinkeel/twinkeel/internal/needs"
)

var epoch = Options{Time: time.Unix(1700000000, 0)}

func newTree(t testing.TB) *Tree {
	t.Helper()
	tree, err := NewTree(Node{Mode: Directory | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func add(t testing.TB, tree *Tree, path string, n Node) {
	t.Helper()
	if err := tree.Add(path, n); err != nil {
		t.Fatal(err)
	}
}

func file(content string) Node {
	return Node{Mode: Regular | 0o644, Size: int64(len(content)), Content: Bytes(content)}
}

func write(t testing.TB, tree *Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	size, err := Write(context.Background(), &b, tree, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(b.Len()) || size%BlockSize != 0 {
		t.Fatalf("size: got %d, and wrote %d bytes", size, b.Len())
	}
	return b.Bytes()
}

// sample holds every kind of node, and every size at which the layout changes.
func sample(t testing.TB) *Tree {
	tree := newTree(t)
	for _, d := range []string{"dev", "etc", "usr", "usr/bin", "many", "empty"} {
		add(t, tree, d, Node{Mode: Directory | 0o755})
	}
	for _, size := range []int{0, 1, maxInline, maxInline + 1, BlockSize - 1, BlockSize, BlockSize + 1, 3*BlockSize + 77} {
		add(t, tree, fmt.Sprintf("usr/size-%d", size), file(strings.Repeat("twinkeel ", size/9+1)[:size]))
	}
	for i := range 700 { // some blocks of entries, and inodes over block borders
		add(t, tree, fmt.Sprintf("many/%0*d", 1+i%200, i), file(strings.Repeat("m", i)))
	}
	add(t, tree, "tmp", Node{Mode: Directory | 0o1777, UID: 5, GID: 70000, Time: time.Unix(1600000000, 5)})
	add(t, tree, "usr/bin/su", Node{Mode: Regular | 0o4755, Size: 3, Content: Bytes("su\n"), Xattrs: map[string]string{
		"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "user.note": "short"}})
	add(t, tree, "etc/heavy", Node{Mode: Regular | 0o600, Size: 3, Content: Bytes("abc"), Xattrs: map[string]string{
		"user.large": strings.Repeat("x", 5000), "trusted.empty": ""}})
	if err := tree.Link("etc/sudo", "usr/bin/su"); err != nil {
		t.Fatal(err)
	}
	add(t, tree, "bin", Node{Mode: Symlink | 0o777, Target: "usr/bin"})
	add(t, tree, "long", Node{Mode: Symlink | 0o777, Target: strings.Repeat("l/", 2000) + "x"})
	add(t, tree, "dev/null", Node{Mode: Character | 0o666, Major: 1, Minor: 3})
	add(t, tree, "dev/far", Node{Mode: Block | 0o660, Major: 259, Minor: 70000})
	add(t, tree, "dev/pipe", Node{Mode: Fifo | 0o600})
	add(t, tree, "dev/socket", Node{Mode: Socket | 0o600})
	return tree
}

func TestSameTreeIsSameBytesWhateverTheOrder(t *testing.T) {
	want := write(t, sample(t))
	names := []string{"a", "b", "b/c", "b/d", "e"}
	build := func(order []string) []byte {
		tree := newTree(t)
		add(t, tree, "b", Node{Mode: Directory | 0o700})
		for _, n := range order {
			if n != "b" {
				add(t, tree, n, file("content of "+n))
			}
		}
		return write(t, tree)
	}
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	if !bytes.Equal(build(names), build(backwards)) {
		t.Error("another order of Add gives other bytes")
	}
	tree := sample(t)
	for range 2 {
		if !bytes.Equal(write(t, tree), want) {
			t.Error("the same tree gives other bytes")
		}
	}
	sum := sha256.Sum256(want)
	golden, err := os.ReadFile("testdata/sample.sha256")
	if err != nil || strings.TrimSpace(string(golden)) != hex.EncodeToString(sum[:]) {
		t.Errorf("the sample's bytes have changed, and with them the identity of every image: got %x, want %s (%v)", sum, golden, err)
	}
}

func TestReaderFindsEveryFile(t *testing.T) {
	b := write(t, sample(t))
	got := map[string]string{}
	err := erofs.Walk(bytes.NewReader(b), int64(len(b)), func(f erofs.File) error {
		var content []byte
		for _, e := range f.Extents {
			content = append(content, b[e.Offset:e.Offset+e.Length]...)
		}
		got[f.Path] = string(content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 8+700+2 || got["usr/size-4097"] != strings.Repeat("twinkeel ", 500)[:4097] || got["etc/sudo"]+got["usr/bin/su"] != "su\n" {
		t.Errorf("got %d files", len(got))
	}
}

func TestUnusableNodesAreRefused(t *testing.T) {
	tree := newTree(t)
	add(t, tree, "file", file("x"))
	for name, n := range map[string]Node{
		"":         file("x"),
		"/abs":     file("x"),
		"a/../b":   file("x"),
		"..":       file("x"),
		"file/x":   file("x"),
		"absent/x": file("x"),
		"zero\x00": file("x"),
		"kind":     {Mode: 0o644},
		"size":     {Mode: Regular, Size: -1},
		"content":  {Mode: Regular, Size: 1},
		"target":   {Mode: Symlink},
		"device":   {Mode: Block, Major: 1 << 12},
		"time":     {Mode: Fifo, Time: time.Unix(-1, 0)},
		"space":    {Mode: Fifo, Xattrs: map[string]string{"other.x": ""}},
		"unnamed":  {Mode: Fifo, Xattrs: map[string]string{"user.": ""}},
		"heavy":    {Mode: Fifo, Xattrs: map[string]string{"user.x": strings.Repeat("x", maxXattrs)}},

		strings.Repeat("n", maxName+1): file("x"),
	} {
		if err := tree.Add(name, n); err == nil {
			t.Errorf("%q: got no error", name)
		}
	}
	if err := tree.Link("x", "absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("link to nothing: got %v", err)
	}
	if err := tree.Link("x", ""); err == nil {
		t.Error("link to a directory: got no error")
	}
	if tree.Len() != 2 {
		t.Errorf("names: got %d, want 2", tree.Len())
	}
}

func TestContentHasTheSizeThatWasSaid(t *testing.T) {
	for _, size := range []int64{2, 4, 2 * BlockSize} {
		tree := newTree(t)
		add(t, tree, "f", Node{Mode: Regular, Size: size, Content: Bytes("abc")})
		if _, err := Write(context.Background(), io.Discard, tree, epoch); err == nil || !strings.Contains(err.Error(), "f: got") {
			t.Errorf("3 bytes as %d: got %v", size, err)
		}
	}
}

func TestRemovedAndReplacedNodesAreGone(t *testing.T) {
	tree := newTree(t)
	add(t, tree, "d", Node{Mode: Directory | 0o755})
	add(t, tree, "d/a", file("a"))
	if err := tree.Link("kept", "d/a"); err != nil {
		t.Fatal(err)
	}
	add(t, tree, "d", Node{Mode: Directory | 0o700}) // the same directory
	if _, ok := tree.Lookup("d/a"); !ok || tree.Len() != 4 {
		t.Fatalf("a directory lost what is in it: %d names", tree.Len())
	}
	add(t, tree, "d", file("now a file"))
	if _, ok := tree.Lookup("d/a"); ok || tree.Len() != 3 {
		t.Errorf("a file has children: %d names", tree.Len())
	}
	if n, ok := tree.Lookup("kept"); !ok || n.Size != 1 || tree.find("kept").links != 1 {
		t.Error("another name of a removed file is gone, or counts wrongly")
	}
	if !tree.Remove("d") || tree.Remove("d") || !slices.Equal(tree.Names(""), []string{"kept"}) {
		t.Errorf("after removal: got %v", tree.Names(""))
	}
}

// A large file is not held: what is allocated follows the number of nodes.
func TestMemoryDoesNotFollowBytes(t *testing.T) {
	tree := newTree(t)
	add(t, tree, "large", Node{Mode: Regular, Size: 1 << 30, Content: zeros(1 << 30)})
	got := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		if _, err := Write(context.Background(), io.Discard, tree, epoch); err != nil {
			b.Fatal(err)
		}
	})
	if got.AllocedBytesPerOp() > 8<<20 {
		t.Errorf("1 GiB: got %d bytes allocated", got.AllocedBytesPerOp())
	}
}

type zeros int64

func (z zeros) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeroReader{}, int64(z))), nil
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestFsckFindsNoFault(t *testing.T) {
	needs.Tools(t, "fsck.erofs")
	for i := range 20 {
		tree := sample(t)
		if i > 0 {
			tree = randomTree(t, rand.New(rand.NewPCG(1, uint64(i))))
		}
		name := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(name, write(t, tree), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("fsck.erofs", name).CombinedOutput(); err != nil {
			t.Fatalf("image %d: %v\n%s", i, err, out)
		}
	}
}
