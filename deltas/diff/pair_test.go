package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// tree is what an image is made of: contents by path.
type tree map[string][]byte

// build makes an image of a tree with mkfs.erofs or mke2fs.
func (tr tree) build(t *testing.T, kind string) []byte {
	t.Helper()
	tool := map[string]string{"erofs": "mkfs.erofs", "ext4": "mke2fs"}[kind]
	needs.Tools(t, tool)
	dir := t.TempDir()
	root, out := filepath.Join(dir, "root"), filepath.Join(dir, "image")
	for path, b := range tr {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	const id = "00000000-0000-0000-0000-000000000001"
	args := []string{"--quiet", "-T0", "-U", id, "--all-root", out, root}
	if kind == "ext4" {
		args = []string{"-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-U", id, "-E", "hash_seed=" + id, "-d", root, out, "24m"}
	}
	cmd := exec.Command(tool, args...)
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", tool, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// releases are two trees with libraries that have much in common with each other, whose
// names say which became which, or nothing.
func releases(r *rand.Rand, name func(release, n int) string) (old, new tree) {
	old, new = tree{}, tree{}
	words := make([][]byte, 40)
	for i := range words {
		words[i] = randomBytes(r, 20+r.IntN(20))
	}
	for n := range 24 {
		var a, b []byte
		for range 4000 {
			w := words[r.IntN(len(words))]
			a = append(a, w...)
			if r.IntN(12) == 0 {
				w = randomBytes(r, 6)
			}
			b = append(b, w...)
		}
		old[name(1, n)], new[name(2, n)] = a, b
	}
	return old, new
}

func TestFilesAreAlignedWithWhatTheyComeFrom(t *testing.T) {
	for label, name := range map[string]func(release, n int) string{
		"the same path":         func(_, n int) string { return fmt.Sprintf("usr/lib/lib%c.so", 'a'+n) },
		"another version":       func(release, n int) string { return fmt.Sprintf("usr/lib/lib%c.so.1.%d-%d", 'a'+n, release, n) },
		"a path that is no use": func(release, n int) string { return fmt.Sprintf("usr/%c/%c", 'a'+(n*7*release)%24, 'a'+23-n) },
	} {
		for _, kind := range []string{"erofs", "ext4"} {
			oldTree, newTree := releases(rand.New(rand.NewPCG(1, 7)), name)
			old, new := oldTree.build(t, kind), newTree.build(t, kind)
			paired, _ := create(t, source(old, nil), source(new, nil), 2)
			// Without their superblocks, images are bytes like any other.
			for _, b := range [][]byte{old, new} {
				clear(b[1024:1152])
			}
			plain, _ := create(t, source(old, nil), source(new, nil), 2)
			t.Logf("%s, %s: %d bytes with pairs, %d without", label, kind, paired.Blob.Size, plain.Blob.Size)
			if paired.Blob.Size > plain.Blob.Size*97/100 {
				t.Errorf("%s, %s: got %d bytes with pairs, %d without", label, kind, paired.Blob.Size, plain.Blob.Size)
			}
		}
	}
}

func TestSmallDeltasOfFilesAreTheSameWithAnyNumberOfThreads(t *testing.T) {
	oldTree, newTree := releases(rand.New(rand.NewPCG(2, 7)), func(_, n int) string { return fmt.Sprint("f", n) })
	old, new := oldTree.build(t, "erofs"), newTree.build(t, "erofs")
	_, want := create(t, source(old, nil), source(new, nil), 1)
	for _, threads := range []int{2, 7} {
		if _, got := create(t, source(old, nil), source(new, nil), threads); !bytes.Equal(got, want) {
			t.Errorf("%d threads make another container than one", threads)
		}
	}
}

// Images that look like file systems and are none must not stop a publisher.
func TestDamagedFileSystemsAreBytesLikeAnyOther(t *testing.T) {
	for _, name := range []string{"internal/erofs/testdata/inline", "internal/erofs/testdata/lz4", "internal/ext4/testdata/ext2", "internal/ext4/testdata/pieces"} {
		good, err := os.ReadFile(filepath.Join("../..", name+".img"))
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(3, 3))
		for range 12 {
			old, new := bytes.Clone(good), edit(r, good)
			for _, b := range [][]byte{old, new} {
				for range 1 + r.IntN(300) {
					b[1024+r.IntN(min(len(b)-1024, 30<<10))] = byte(r.Uint32())
				}
			}
			_, container := create(t, source(old, nil), source(new, nil), 2)
			if got, err := apply(container, source(old, nil)); err != nil || !bytes.Equal(got, new) {
				t.Fatalf("%s: the delta does not lead to the new image: %v", name, err)
			}
		}
	}
}

// sparse is a large image of which a little is not zero bytes, or is changed.
type sparse struct {
	size  int64
	noise []byte
	step  int64 // a change every so many bytes, or 0
}

func (s sparse) ReadAt(b []byte, at int64) (int, error) {
	if at >= s.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), s.size-at))
	for i := 0; i < n; {
		// Each round of noise differs from the others, so that blocks do.
		o := at + int64(i)
		k := copy(b[i:n], s.noise[o%int64(len(s.noise)):])
		for j := range k {
			b[i+j] += byte((o + int64(j)) / int64(len(s.noise)))
		}
		i += k
	}
	if s.step > 0 {
		for o := (at + s.step - 1) / s.step * s.step; o < at+int64(n); o += s.step {
			b[o-at]++
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func TestMemoryFollowsTheChangeNotTheImage(t *testing.T) {
	noise := randomBytes(rand.New(rand.NewPCG(9, 9)), 1<<20)
	const size, limit = 256 << 20, 128 << 20
	old := &Source{Reader: sparse{size: size, noise: noise}, Size: size}
	new := &Source{Reader: sparse{size: size, noise: noise, step: 1 << 20}, Size: size}
	var most uint64
	var mu sync.Mutex
	runtime.GC()
	o := Options{Threads: 2, Progress: func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
	}}
	r, err := Create(context.Background(), old, new, io.Discard, o)
	if err != nil {
		t.Fatal(err)
	}
	if most > limit || r.Blob.Size > 64<<10 {
		t.Errorf("got %d MiB of heap and a delta of %d bytes, want at most %d MiB and 64 KiB", most>>20, r.Blob.Size, limit>>20)
	}
}

func TestAlignmentStopsWhenItIsCancelled(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	old := randomBytes(r, 3<<20)
	new := bytes.Clone(old)
	for i := 0; i < len(new); i += 700 {
		new[i]++
	}
	steps := 0
	count := Options{Threads: 2, Progress: func(int64, int64) { steps++ }}
	if _, err := Create(context.Background(), source(old, nil), source(new, nil), io.Discard, count); err != nil {
		t.Fatal(err)
	}
	for at := 1; at < steps; at++ {
		ctx, cancel := context.WithCancelCause(context.Background())
		n := 0
		o := Options{Threads: 2, Progress: func(int64, int64) {
			if n++; n == at {
				cancel(errFault)
			}
		}}
		if _, err := Create(ctx, source(old, nil), source(new, nil), io.Discard, o); !errors.Is(err, errFault) {
			t.Errorf("cancelled at step %d of %d: got %v, want %v", at, steps, err, errFault)
		}
		cancel(nil)
	}
}
