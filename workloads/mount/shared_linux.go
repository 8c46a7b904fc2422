package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// Shared is an image that is mounted at no directory, to be mounted at many: what one of
// them has read is in memory for the next. Mounted from its file each time, it would be read
// and kept in memory each time. It holds the file's room until it is closed.
type Shared struct {
	tree   *os.File
	source workloads.Identity
}

// Share verifies the file at path as Image does, and makes it one that is shared. It is for
// kernels that mount files (6.12) and copy what is mounted nowhere (6.15): others return an
// error. It needs root.
func Share(path string, img release.Image, before workloads.Identity) (*Shared, error) {
	f, err := verified(path, img, before)
	if err != nil {
		return nil, fmt.Errorf("share image %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	s := &Shared{source: Identify(f)}
	if s.source == (workloads.Identity{}) {
		return nil, fmt.Errorf("share image %s: it was changed just now", path)
	}
	if s.tree, err = tree(descriptor(f)); err != nil {
		return nil, fmt.Errorf("share image %s: %w", path, err)
	}
	return s, nil
}

// tree mounts an image nowhere.
func tree(source string) (*os.File, error) {
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fs) }()
	err = unix.FsconfigSetString(fs, "source", source)
	if err == nil {
		err = unix.FsconfigSetFlag(fs, "ro")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), source), nil
}

// Of reports whether it is that of the file at path, as that is now.
func (s *Shared) Of(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return Identify(f) == s.source
}

// Mount returns one more mount of the image, for Attach in this process or another one.
func (s *Shared) Mount() (*os.File, error) {
	fd, err := unix.OpenTree(int(s.tree.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("mount of a shared image: %w", err)
	}
	return os.NewFile(uintptr(fd), "image"), nil
}

// Close lets go of the image; what was mounted stays.
func (s *Shared) Close() error { return s.tree.Close() }

// Given is the mount that this process was started with as descriptor fd; nil: none.
func Given(fd uintptr) *os.File {
	var s unix.Statfs_t
	if unix.Fstatfs(int(fd), &s) != nil || s.Type != unix.EROFS_SUPER_MAGIC_V1 {
		return nil
	}
	unix.CloseOnExec(int(fd))
	return os.NewFile(fd, "image")
}

// Attach mounts what Mount returned at dir, and closes it.
func Attach(image *os.File, dir string) error {
	err := unix.MoveMount(int(image.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err = errors.Join(err, image.Close()); err != nil {
		return fmt.Errorf("mount image at %s: %w", dir, err)
	}
	return nil
}
