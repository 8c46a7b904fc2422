package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

func TestAnImageIsReadOnlyOnceItIsSealed(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	root := release.DigestOf([]byte("web"))
	const size = 3 * 4096
	dev, err := s.OpenWrite(root, size)
	if err != nil {
		t.Fatal(err)
	}
	content := partitions.AlignedBuffer(size)
	copy(content, bytes.Repeat([]byte("app "), size/4))
	if _, err := dev.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dev.Flush(), dev.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenRead(root); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an image that is being written can be read: %v", err)
	}
	for range 2 { // a second time it is sealed already
		if err := s.Seal(root); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.OpenRead(root)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := partitions.AlignedBuffer(size)
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("content differs: %v", err)
	}
	if st, err := os.Stat(s.Path(root)); err != nil || st.Mode().Perm() != 0o444 {
		t.Errorf("mode: got %v, %v; want 0444", st.Mode(), err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0] != root {
		t.Errorf("list: got %v, %v", list, err)
	}
	for range 2 {
		if err := s.Remove(root); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("list: got %v, %v; want none", list, err)
	}
}

func TestAnImageThatDoesNotFitTakesNoRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenWrite(release.DigestOf(nil), 1<<50); !errors.Is(err, workloads.ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("files are left: %v, %v", entries, err)
	}
}
