package ext4

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
	for _, name := range []string{"ext4", "ext4-32bit", "ext2"} {
		b := image(t, name)
		files, err := walk(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			c := content(b, f)
			if int64(len(c)) != f.Size {
				t.Errorf("%s: %s: got %d of %d bytes", name, f.Path, len(c), f.Size)
			}
			got = append(got, fmt.Sprintf("%x  %s", sha256.Sum256(c), f.Path))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func content(b []byte, f File) (c []byte) {
	for _, e := range f.Extents {
		c = append(c, b[e.Offset:e.Offset+e.Length]...)
	}
	return c
}

func TestFileInPiecesIsInItsOrder(t *testing.T) {
	b := image(t, "pieces")
	files, err := walk(b)
	if err != nil {
		t.Fatal(err)
	}
	var torn, long File
	for _, f := range files {
		switch f.Path {
		case "torn":
			torn = f
		case "usr/lib/long":
			long = f
		case "etc/hostname":
			t.Errorf("got %s, which was removed", f.Path)
		}
	}
	if len(torn.Extents) < 3 || torn.Size != 12000 || !bytes.Equal(content(b, torn), content(b, long)[:12000]) {
		t.Errorf("got %+v, want the beginning of %+v", torn, long)
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
	b, n := image(t, "ext4"), 0
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
	for _, name := range []string{"ext4", "ext2"} {
		good := image(t, name)
		check(t, good[:len(good)/2])
		for i := superOffset; i < min(len(good), 40<<10); i++ {
			if good[i] == 0 && i%61 != 0 {
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
	for _, name := range []string{"ext4", "ext2", "pieces"} {
		f.Add(image(f, name))
	}
	f.Fuzz(check)
}
