package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// osDir is the real Dir.
type osDir struct {
	path string
}

// OpenDir opens the directory at path; if create is set it makes it and its missing
// parents, durably.
func OpenDir(path string, create bool) (Dir, error) {
	if create {
		if err := makeAll(path); err != nil {
			return nil, err
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("open directory %s: is not a directory", path)
	}
	return &osDir{path}, nil
}

// makeAll is os.MkdirAll with mode 0700 and a sync of each parent that got an entry. It
// syncs the parent of path in any case: whoever made path may have been killed before its
// own sync, and then files that are durable in path would go down with it.
func makeAll(path string) error {
	parent := filepath.Dir(path)
	if st, err := os.Stat(path); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("open directory %s: is not a directory", path)
		}
		err := syncDir(parent)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) && readOnly(parent) {
			return nil // nobody made an entry there who is like us
		}
		return err
	}
	if parent != path {
		if err := makeAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// readOnly reports whether path lies on a file system that is never written, such as the
// EROFS of a slot, which has nothing to sync and says EINVAL.
func readOnly(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}

func (d *osDir) Read(name string) ([]byte, error) {
	if err := CheckFileName(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.path, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: is not a regular file", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("read %s: got more than %d bytes", f.Name(), MaxFile)
	}
	return b, nil
}

func (d *osDir) Replace(name string, data []byte) error {
	if err := CheckFileName(name); err != nil {
		return err
	}
	if len(data) > MaxFile {
		return fmt.Errorf("replace %s: got %d bytes, want at most %d", name, len(data), MaxFile)
	}
	path := filepath.Join(d.path, name)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(d.path), renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	defer f.Cleanup()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return syncDir(d.path)
}

func (d *osDir) Remove(name string) error {
	if err := CheckFileName(name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.path, name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(d.path)
}

func (d *osDir) List() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && CheckFileName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func (d *osDir) Lock() (func(), error) {
	// The directory itself is locked: no lock file that a read-only file system
	// could not hold, and nothing to clean up.
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", d.path, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", d.path, err)
	}
	removeLeftovers(d.path)
	return func() { f.Close() }, nil
}

// leftover is the form of renameio's temporary names: a dot, the name of the file and a
// random number of up to 19 digits. Shorter numbers are too rare to be worth mistaking
// somebody's own dot file for one.
var leftover = regexp.MustCompile(`^\.[^.].*[0-9]{10}$`)

// removeLeftovers deletes what interrupted Replace calls left in the directory and in
// those below it. Only the holder of the lock may do this; a reader could hit a Replace
// of the holder. Where it fails (a read-only file system) the leftovers stay and do no
// harm.
func removeLeftovers(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return
	}
	for _, e := range entries {
		switch {
		case e.IsDir() && CheckFileName(e.Name()) == nil:
			removeLeftovers(filepath.Join(path, e.Name()))
		case e.Type().IsRegular() && leftover.MatchString(e.Name()):
			_ = os.Remove(filepath.Join(path, e.Name()))
		}
	}
}

func (d *osDir) Sub(name string) (Dir, error) {
	if err := CheckFileName(name); err != nil {
		return nil, err
	}
	return OpenDir(filepath.Join(d.path, name), true)
}
