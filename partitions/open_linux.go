package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is in the chain of OpenWrite's error when something else holds the device:
// a mounted file system, device-mapper, a loop device or another writer.
var ErrInUse = errors.New("in use")

// ReadDevice is an image opened for reading.
type ReadDevice interface {
	OpenDevice
	// File is the same image as an ordinary file, read through the page cache, to be
	// handed to another process. It belongs to the device, which closes it.
	File() *os.File
}

// OpenRead opens the block device or regular file at path for reading past the page
// cache. Its WriteAt and Flush are errors.
func OpenRead(path string) (ReadDevice, error) {
	st, err := checkKind(path)
	if err != nil {
		return nil, err
	}
	cached, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d, err := newDevice(path, st, cached, os.O_RDONLY)
	if err != nil {
		return nil, errors.Join(err, cached.Close())
	}
	return d, nil
}

// OpenWrite opens the block device or regular file at path for writing, exclusively:
// no file system on it is mounted, no other device is built on it, no other OpenWrite
// holds it. Writes bypass the page cache where the file system allows that, and are
// durable after Flush.
func OpenWrite(path string) (OpenDevice, error) {
	for try := 1; ; try++ {
		d, err := openWrite(path)
		if try == claimTries || !errors.Is(err, ErrInUse) {
			return d, err
		}
		// The kernel's claim on a device that was just closed ends with the last copy of
		// its descriptor, and a process that is being started has one for a moment.
		time.Sleep(claimPause)
	}
}

const (
	claimTries = 5
	claimPause = 20 * time.Millisecond
)

func openWrite(path string) (OpenDevice, error) {
	st, err := checkKind(path)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if isBlock(st) {
		flags |= unix.O_EXCL // the kernel's own claim: mounts and device-mapper hold it too
	} else if by, err := attached(system.sys, st); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	} else if by != "" {
		return nil, fmt.Errorf("open %s: attached to %s: %w", path, by, ErrInUse)
	}
	cached, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open %s: mounted, or held by another device or writer: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	if !isBlock(st) {
		err := unix.Flock(int(cached.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("open %s: held by another writer: %w", path, ErrInUse), cached.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: lock: %w", path, err), cached.Close())
		}
	}
	d, err := newDevice(path, st, cached, os.O_RDWR)
	if err != nil {
		return nil, errors.Join(err, cached.Close())
	}
	return d, nil
}

// checkKind refuses everything that is not a block device or a regular file before it
// is opened, because opening some things (tapes, pipes) has effects.
func checkKind(path string) (fs.FileInfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() && !isBlock(st) {
		return nil, fmt.Errorf("open %s: neither a block device nor a regular file", path)
	}
	return st, nil
}

func isBlock(st fs.FileInfo) bool {
	return st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice
}

// newDevice makes a device of the open file cached, which holds the lock or claim, and
// of a second descriptor of the very same inode that bypasses the page cache.
func newDevice(path string, want fs.FileInfo, cached *os.File, mode int) (*device, error) {
	st, err := cached.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(st, want) {
		return nil, fmt.Errorf("open %s: was replaced while it was opened", path)
	}
	size, err := cached.Seek(0, 2) // works for block devices too, where Stat says 0
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	d := &device{path: path, cached: cached, size: size &^ (alignment - 1), writable: mode != os.O_RDONLY}
	direct, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(cached.Fd())), mode|unix.O_DIRECT, 0)
	if err != nil {
		if !errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("open %s past the page cache: %w", path, err)
		}
		return d, nil
	}
	if !probe(direct, d.size) {
		return d, direct.Close()
	}
	d.direct = direct
	return d, nil
}

// probe reports whether a direct read works: some file systems accept O_DIRECT at open
// and refuse it, or our alignment, when it counts. Other errors are left to show later.
func probe(f *os.File, size int64) bool {
	if size == 0 {
		return true
	}
	_, err := f.ReadAt(AlignedBuffer(alignment), 0)
	return !errors.Is(err, unix.EINVAL)
}

// attached returns the name of a loop device that the file st is attached to, or "".
// Writing under a loop device would write under whatever is mounted from it.
func attached(sys string, st fs.FileInfo) (string, error) {
	loops, err := filepath.Glob(filepath.Join(sys, "block/loop*/loop/backing_file"))
	if err != nil {
		return "", err
	}
	for _, l := range loops {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // detached in between
		}
		other, err := os.Stat(strings.TrimSuffix(string(b), "\n"))
		if err == nil && os.SameFile(st, other) {
			return filepath.Base(filepath.Dir(filepath.Dir(l))), nil
		}
	}
	return "", nil
}

// sameDevice reports whether two files are the same storage. Block devices compare by
// device number: several nodes can stand for one device.
func sameDevice(a, b fs.FileInfo) bool {
	sa, okA := a.Sys().(*syscall.Stat_t)
	sb, okB := b.Sys().(*syscall.Stat_t)
	if okA && okB && isBlock(a) && isBlock(b) {
		return sa.Rdev == sb.Rdev
	}
	return os.SameFile(a, b)
}
