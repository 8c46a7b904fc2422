package quota

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Free is how many bytes of dir's file system nobody has taken.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("room in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Measure adds up the bytes that everything below dir takes on its disk. Somebody writes
// there meanwhile: what is gone when it is looked at takes none. It follows no link.
func Measure(ctx context.Context, dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("measure: %w", err)
	}
	defer func() { _ = root.Close() }()
	var size, n int64
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if n++; n > most {
			return fmt.Errorf("more than %d files", most)
		}
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return gone(err)
		}
		i, err := e.Info()
		if err != nil {
			return gone(err)
		}
		if st, ok := i.Sys().(*syscall.Stat_t); ok {
			size += st.Blocks * 512
		} else {
			size += i.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return size, nil
}

// gone lets a file be that was removed while it was looked at.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
