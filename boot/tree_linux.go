package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// copyTree copies a file or directory, with owners, modes and extended attributes, and
// with an overlay's marks of what was removed (devices 0/0). A directory that is there
// already takes in what is copied.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyNode(path, filepath.Join(to, rel))
	})
}

// copyNode copies one file, or an empty directory.
func copyNode(from, to string) error {
	st, err := os.Lstat(from)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("copy %s: no owner is known", from)
	}
	if !st.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	switch mode := st.Mode(); mode.Type() {
	case fs.ModeDir:
		if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
		return os.Lchown(to, int(sys.Uid), int(sys.Gid))
	case 0:
		if err := copyContent(from, to); err != nil {
			return err
		}
	default: // a mark of an overlay, or a node that somebody made
		if err := unix.Mknod(to, sys.Mode, int(sys.Rdev)); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
		return os.Lchown(to, int(sys.Uid), int(sys.Gid))
	}
	if err := os.Lchown(to, int(sys.Uid), int(sys.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, sys.Mode&0o7777); err != nil {
		return err
	}
	return copyAttributes(from, to)
}

func copyContent(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// maxAttributes bounds what one file has of extended attributes, in bytes; the kernel's
// own limit.
const maxAttributes = 64 << 10

func copyAttributes(from, to string) error {
	b := make([]byte, maxAttributes)
	n, err := unix.Llistxattr(from, b)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("attributes of %s: %w", from, err)
	}
	for _, name := range strings.Split(string(b[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") && name != "trusted.overlay.opaque" {
			continue // what else an overlay notes is true of the original only
		}
		v := make([]byte, maxAttributes)
		m, err := unix.Lgetxattr(from, name, v)
		if err == nil {
			err = unix.Lsetxattr(to, name, v[:m], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s of %s: %w", name, from, err)
		}
	}
	return nil
}

// replace makes content the content of a small file, durably and whole.
func replace(path string, content []byte) error {
	fresh := path + ".new"
	f, err := os.Create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncFS(filepath.Dir(path))
}

// syncFS makes all that was written to the file system of path durable.
func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
