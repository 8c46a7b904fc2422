package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// Image verifies the file at path against img and mounts it, read-only, at dir. One that
// still has the identity that it had when somebody else verified it is not read again. It
// needs root.
func Image(path string, img release.Image, before workloads.Identity, dir string) error {
	f, err := verified(path, img, before)
	if err != nil {
		return fmt.Errorf("mount image %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	// By the descriptor, so that what is mounted is what was read.
	err = mountEROFS(descriptor(f), dir)
	if errors.Is(err, unix.ENOTBLK) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) {
		err = errors.Join(overLoop(f, dir), err)
		if mounted(dir) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("mount image %s: %w", path, err)
	}
	return nil
}

// File verifies the file at path, as Image does, and makes it seen, as it is and
// read-only, at the file at: for a kernel that is not the host's. It needs root.
func File(path string, img release.Image, before workloads.Identity, at string) error {
	f, err := verified(path, img, before)
	if err != nil {
		return fmt.Errorf("show image %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	err = unix.Mount(descriptor(f), at, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		return fmt.Errorf("show image %s: %w", path, err)
	}
	return nil
}

func descriptor(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// verified opens the file of an image, which is what img says.
func verified(path string, img release.Image, before workloads.Identity) (*os.File, error) {
	f, err := open(path, img.Size)
	if err != nil {
		return nil, err
	}
	if before != (workloads.Identity{}) && Identify(f) == before {
		return f, nil
	}
	root, err := verity.Root(f, img.Size, img.Salt)
	if err == nil && root != img.Root {
		err = fmt.Errorf("verity root: got %s, want %s", root, img.Root)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// open opens a file that only root can have changed.
func open(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var s unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &s)
	switch {
	case err != nil:
	case s.Mode&unix.S_IFMT != unix.S_IFREG || s.Size < size:
		err = fmt.Errorf("got mode %o and %d bytes, want a regular file of at least %d", s.Mode, s.Size, size)
	case int(s.Uid) != os.Geteuid() || s.Mode&0o022 != 0:
		err = fmt.Errorf("got owner %d and mode %o, want a file that nobody else writes", s.Uid, s.Mode&0o777)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

func mountEROFS(source, dir string) error {
	return unix.Mount(source, dir, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, "")
}

// overLoop mounts f over a loop device, for kernels that mount block devices only.
func overLoop(f *os.File, dir string) error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()
	const tries = 16 // somebody else may take the free one first
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return fmt.Errorf("free loop device: %w", err)
		}
		device := "/dev/loop" + strconv.Itoa(n)
		l, err := os.OpenFile(device, os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.IoctlLoopConfigure(int(l.Fd()), &unix.LoopConfig{
			Fd:   uint32(f.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR},
		})
		if errors.Is(err, unix.EBUSY) {
			_ = l.Close()
			continue
		}
		if err == nil {
			err = mountEROFS(device, dir)
		}
		return errors.Join(err, l.Close()) // unmounted and closed, it lets go of f
	}
	return fmt.Errorf("loop device: got %d in a row that somebody else took", tries)
}

// mounted reports whether an EROFS lies at dir.
func mounted(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.EROFS_SUPER_MAGIC_V1
}

// Check reports the first of dirs, absolute paths in the image mounted at root, that is
// not a plain directory there: nothing can be mounted on it. A link could lead it
// anywhere.
func Check(root string, dirs []string) error {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("image at %s: %w", root, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, dir := range dirs {
		at, err := unix.Openat2(fd, "."+dir, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		if err != nil {
			return fmt.Errorf("image: want a directory %s, and no link on the way to it: %w", dir, err)
		}
		_ = unix.Close(at)
	}
	return nil
}
