package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/mount"
)

// reserve is what stays free on the data partition beside images, in bytes: the state of
// the host has to have room, whatever applications need.
const reserve = 16 << 20

const (
	sealed = ".erofs"
	part   = ".part"
)

// Store is a directory of images.
type Store struct{ dir string }

// Open returns the store in dir, and makes that if need be.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Store{dir}, syncDir(filepath.Dir(dir))
}

func (s *Store) file(root release.Digest, end string) string {
	return filepath.Join(s.dir, root.String()+end)
}

// Path is the file of an image that was sealed.
func (s *Store) Path(root release.Digest) string { return s.file(root, sealed) }

// Identity is that of this file, or zero if it cannot be told.
func (s *Store) Identity(root release.Digest) workloads.Identity {
	f, err := os.Open(s.Path(root))
	if err != nil {
		return workloads.Identity{}
	}
	defer func() { _ = f.Close() }()
	return mount.Identify(f)
}

// OpenRead opens an image that was sealed, past the page cache.
func (s *Store) OpenRead(root release.Digest) (partitions.OpenDevice, error) {
	return partitions.OpenRead(s.Path(root))
}

// OpenWrite opens an image that is not sealed, and makes it if need be, with all the room
// that it needs.
func (s *Store) OpenWrite(root release.Digest, size int64) (partitions.OpenDevice, error) {
	path := s.file(root, part)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.create(path, size)
	} else if err == nil && (!st.Mode().IsRegular() || st.Size() != size) {
		if err = os.RemoveAll(path); err == nil {
			err = s.create(path, size)
		}
	}
	if err != nil {
		return nil, err
	}
	return partitions.OpenWrite(path)
}

// create makes a file of size bytes whose blocks are its own.
func (s *Store) create(path string, size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("room for image: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free-reserve < size {
		return fmt.Errorf("image needs %d bytes, %d are free and %d stay so: %w", size, free, reserve, workloads.ErrNoRoom)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return syncDir(s.dir)
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: %w", workloads.ErrNoRoom, err)
	}
	return errors.Join(fmt.Errorf("make image: %w", err), os.Remove(path))
}

// Seal durably makes an image one that may run. One that was sealed before is left as it
// is.
func (s *Store) Seal(root release.Digest) error {
	from := s.file(root, part)
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Lstat(s.Path(root)); serr == nil {
			return syncDir(s.dir)
		}
	}
	if err != nil {
		return fmt.Errorf("seal image: %w", err)
	}
	err = errors.Join(f.Chmod(0o444), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(from, s.Path(root))
	}
	if err != nil {
		return fmt.Errorf("seal image: %w", err)
	}
	return syncDir(s.dir)
}

// List returns all images, sealed or not, sorted. Files that are none are left alone.
func (s *Store) List() ([]release.Digest, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var list []release.Digest
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), sealed)
		if !ok {
			name, ok = strings.CutSuffix(e.Name(), part)
		}
		if root, err := release.ParseDigest(name); ok && err == nil {
			list = append(list, root)
		}
	}
	slices.SortFunc(list, func(a, b release.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list), nil
}

// Remove drops an image. One that a running application has mounted is gone from the
// directory and lives on until that ends.
func (s *Store) Remove(root release.Digest) error {
	for _, end := range []string{part, sealed} {
		if err := os.Remove(s.file(root, end)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove image: %w", err)
		}
	}
	return syncDir(s.dir)
}

// syncDir makes names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
