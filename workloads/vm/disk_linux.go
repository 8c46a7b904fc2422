package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// smallest is the least disk that an ext4 file system with a journal has room on.
const smallest = 16 << 20

// Owner says whose a disk is, and whose the directory in it.
type Owner struct {
	File     int // user and group of the host that may open it
	UID, GID int // in the guest
}

// Disk durably makes the disk of a volume at path, an ext4 file system of size bytes or
// the little that one needs, if it is not there; one that is smaller grows, and the guest
// lets its file system grow with it. It takes no room before it is written to.
func Disk(ctx context.Context, mkfs, path string, owner Owner, size int64) error {
	size = max(size, smallest) &^ 4095
	st, err := os.Lstat(path)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return fmt.Errorf("disk %s: got %s, want a file", path, st.Mode())
	case err == nil && st.Size() < size:
		return os.Truncate(path, size)
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	// A directory of the application's with files in it is that of another level.
	dir := filepath.Dir(path)
	made := filepath.Join(dir, ".new-"+filepath.Base(path))
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("disk %s: its directory holds the files of another isolation level, such as %s: move them away, or into a generation of their own", path, entries[0].Name())
	}
	f, err := os.OpenFile(made, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return errors.Join(err, f.Close())
	}
	c := exec.CommandContext(ctx, mkfs, "-q", "-F", "-b", "4096", "-m", "0",
		"-E", fmt.Sprintf("root_owner=%d:%d,lazy_itable_init=1,lazy_journal_init=1", owner.UID, owner.GID), made)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, merr := c.CombinedOutput(); merr != nil {
		err = fmt.Errorf("disk %s: %w: %.300s", path, merr, out)
	}
	err = errors.Join(err, f.Chown(owner.File, owner.File), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(made))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
