package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/quota"
)

// copier copies a tree that nobody writes to.
type copier struct {
	ctx     context.Context
	entries int
	reserve int64                // bytes that stay free
	links   map[[2]uint64]string // device and inode → the first copy of a file with several names
	loose   int64                // bytes that were copied since the last sync
}

// copyTree copies what is below from into to, which is there and empty, with owners,
// modes, times and extended attributes.
func copyTree(ctx context.Context, from, to string) error {
	c := &copier{ctx: ctx, reserve: reserve, links: map[[2]uint64]string{}}
	return c.dir(from, to, 0)
}

func (c *copier) dir(from, to string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are nested more than %d deep", from, maxDepth)
	}
	f, err := openNoFollow(from, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			if err := c.entry(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entry copies one name. A link is copied as a link: nothing leads out of the tree.
func (c *copier) entry(from, to string, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.entries++; c.entries > maxEntries {
		return fmt.Errorf("%s: more than %d files", from, maxEntries)
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		makeDir := os.Mkdir
		if depth == 0 { // a volume
			makeDir = quota.Mkdir
		}
		if err = makeDir(to, 0o700); err == nil {
			err = c.dir(from, to, depth+1)
		}
	case unix.S_IFREG:
		id := [2]uint64{st.Dev, st.Ino}
		if first, known := c.links[id]; known {
			return os.Link(first, to)
		}
		if st.Nlink > 1 {
			c.links[id] = to
		}
		err = c.file(from, to, st.Size)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	case unix.S_IFIFO:
		err = unix.Mkfifo(to, 0o600)
	default:
		// A socket means nothing without its process, and a device is nobody's data.
		return nil
	}
	if err != nil {
		return err
	}
	return attributes(from, to, &st)
}

// file copies content by sharing blocks where the file system can, and else what is not
// a hole.
func (c *copier) file(from, to string, size int64) error {
	in, err := openNoFollow(from, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
	if err != nil {
		err = c.content(in, out, size)
	}
	return errors.Join(err, out.Close())
}

// piece is how much is copied before it is asked again whether there is time for more.
const piece = 8 << 20

// flush is how much is copied before it is made durable. Copied into memory alone, all of it
// would have to be at the end, at once, for which there is no deadline.
const flush = 64 << 20

func (c *copier) content(in, out *os.File, size int64) error {
	if err := c.room(in, out); err != nil {
		return err
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes to the end
		}
		end := size
		if err != nil {
			start = at
		} else if end, err = unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE); err != nil {
			return err
		}
		end = min(end, start+piece)
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
		at = end
		if c.loose += end - start; c.loose >= flush {
			if err := unix.Syncfs(int(out.Fd())); err != nil {
				return &os.PathError{Op: "sync", Path: out.Name(), Err: err}
			}
			c.loose = 0
		}
	}
	return nil
}

// room refuses to fill the file system: what was checked before may have changed since, and
// the state of the host may be kept beside the data.
func (c *copier) room(in, out *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: in.Name(), Err: err}
	}
	free, err := free(out.Name())
	if need := min(st.Size, st.Blocks*512); err == nil && free-c.reserve < need {
		err = fmt.Errorf("%s: needs %d bytes, %d are free and %d stay so: %w", in.Name(), need, free, c.reserve, workloads.ErrNoRoom)
	}
	return err
}

// attributes gives a copy owner, mode, times and extended attributes of what it copies.
// A link that an app made stands for itself.
func attributes(from, to string, st *unix.Stat_t) error {
	if os.Geteuid() == 0 {
		if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if !link {
		if err := unix.Fchmodat(unix.AT_FDCWD, to, st.Mode&0o7777, 0); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
		if err := xattrs(from, to); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimes", Path: to, Err: err}
	}
	return nil
}

// xattrs copies the extended attributes that can be copied: others belong to the kernel.
func xattrs(from, to string) error {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(from, names)
	if err != nil || n == 0 {
		return nil
	}
	value := make([]byte, 64<<10)
	for _, name := range splitNames(names[:n]) {
		k, err := unix.Lgetxattr(from, name, value)
		if err != nil {
			continue
		}
		if err := unix.Lsetxattr(to, name, value[:k], 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return &os.PathError{Op: "setxattr " + name, Path: to, Err: err}
		}
	}
	return nil
}

func splitNames(b []byte) []string {
	var names []string
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			names = append(names, string(b[start:i]))
			start = i + 1
		}
	}
	return names
}

// openNoFollow opens what is at path unless that is a link. It does not wait for a fifo.
func openNoFollow(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
}

// measure adds up what a copy of a tree would have to move.
func measure(ctx context.Context, root string) (size, files int64, err error) {
	deadline := time.Now().Add(lookTime)
	// The app runs meanwhile: what is gone when it is looked at need not be copied.
	err = filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil
		}
		if err != nil {
			return err
		}
		if files++; files > maxEntries {
			return fmt.Errorf("%s: more than %d files", root, maxEntries)
		}
		if files%1024 == 0 && (ctx.Err() != nil || time.Now().After(deadline)) {
			return fmt.Errorf("%s: looking at it takes too long", root)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		size += min(st.Size, st.Blocks*512)
		return nil
	})
	return size, files, err
}

// syncTree makes everything below path durable: by one sync of its file system, which is
// cheaper than one of each file.
func syncTree(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
