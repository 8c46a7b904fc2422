package erofs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func image(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".img"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lines(t *testing.T, name string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		list = append(list, s.Text())
	}
	return list
}

func walk(b []byte) (list []File, err error) {
	err = Walk(bytes.NewReader(b), int64(len(b)), func(f File) error {
		list = append(list, f)
		return nil
	})
	return list, err
}

func TestExtentsHoldWhatMkfsPutIntoTheFiles(t *testing.T) {
	want := lines(t, "tree.sha256")
	slices.Sort(want)
	for _, name := range []string{"plain", "inline", "chunks"} {
		b := image(t, name)
		files, err := walk(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			h, n := sha256.New(), int64(0)
			for _, e := range f.Extents {
				h.Write(b[e.Offset : e.Offset+e.Length])
				n += e.Length
			}
			if n != f.Size || f.Compressed {
				t.Errorf("%s: %s: got %d of %d bytes", name, f.Path, n, f.Size)
			}
			got = append(got, fmt.Sprintf("%x  %s", h.Sum(nil), f.Path))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// long.extents is what dump.erofs says of the images in turn.
func TestCompressedExtentIsWhereTheClustersAre(t *testing.T) {
	want := lines(t, "long.extents")
	for _, name := range []string{"lz4", "lz4-big", "lz4-legacy"} {
		files, err := walk(image(t, name))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(files, func(f File) bool { return f.Path == "usr/lib/long" })
		if i < 0 || !files[i].Compressed || len(files[i].Extents) != 1 {
			t.Fatalf("%s: got %v", name, files)
		}
		e, end := files[i].Extents[0], int64(0)
		for at := e.Offset; at < e.Offset+e.Length; at = end {
			var start int64
			if len(want) == 0 {
				t.Fatalf("%s: got %+v, which is more than all clusters", name, e)
			}
			if _, err := fmt.Sscan(want[0], &start, &end); err != nil || start != at {
				t.Fatalf("%s: got %+v, want a cluster at %s (%v)", name, e, want[0], err)
			}
			want = want[1:]
		}
	}
	if len(want) != 0 {
		t.Errorf("clusters that no extent has: %q", want)
	}
}

func TestWhatIsNoImageIsSaidToBeNone(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 100), make([]byte, 1<<16)} {
		if _, err := walk(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%d zero bytes: got %v, want %v", len(b), err, ErrFormat)
		}
	}
}

func TestErrorOfVisitStopsTheWalk(t *testing.T) {
	b, n := image(t, "inline"), 0
	stop := errors.New("stop")
	err := Walk(bytes.NewReader(b), int64(len(b)), func(File) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("got %v after %d files, want %v after 1", err, n, stop)
	}
}

// check walks what may be anything.
func check(t *testing.T, b []byte) {
	files, err := walk(b)
	if err != nil && !errors.Is(err, ErrFormat) {
		t.Fatalf("got %v, want %v", err, ErrFormat)
	}
	for _, f := range files {
		for _, e := range f.Extents {
			if e.Offset < 0 || e.Length < 0 || e.Offset > int64(len(b)) || e.Length > int64(len(b))-e.Offset {
				t.Fatalf("%s: %+v is not in %d bytes", f.Path, e, len(b))
			}
		}
	}
}

func TestDamagedImageIsWalkedWithoutHarm(t *testing.T) {
	for _, name := range []string{"inline", "chunks", "lz4"} {
		good := image(t, name)
		check(t, good[:len(good)/2])
		for i := superOffset; i < min(len(good), 8192); i++ {
			if good[i] == 0 && i%5 != 0 {
				continue // else it takes long
			}
			for _, v := range []byte{0xff, 0x01} {
				bad := bytes.Clone(good)
				bad[i] ^= v
				check(t, bad)
			}
		}
	}
}

func FuzzWalk(f *testing.F) {
	for _, name := range []string{"inline", "lz4", "lz4-legacy"} {
		f.Add(image(f, name))
	}
	f.Fuzz(check)
}
