package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of linux/include/uapi/linux/btrfs.h, and the inode of a subvolume's root.
const (
	subvolumeCreate = 0x5000940e
	subvolumeFlags  = 0x80089419
	subvolumeMark   = 0x4008941a
	inodeLookup     = 0xd0009412
	groupAssign     = 0x40189429
	groupCreate     = 0x4010942a
	groupLimit      = 0x8030942b
	fsInfo          = 0x8400941f

	rootInode = 256
)

// maxName is what the call takes of a subvolume's name.
const maxName = 4087

// Mkdir makes a directory that Limit can limit: on btrfs, which limits nothing else, a
// subvolume.
func Mkdir(path string, mode os.FileMode) error {
	dir, name := splitPath(path)
	parent, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	if !onBtrfs(parent) || len(name) > maxName {
		return os.Mkdir(path, mode)
	}
	var args struct { // btrfs_ioctl_vol_args
		fd   int64
		name [maxName + 1]byte
	}
	copy(args.name[:], name)
	if err := ioctl(parent, subvolumeCreate, unsafe.Pointer(&args)); err != nil {
		return &os.PathError{Op: "make subvolume", Path: path, Err: err}
	}
	return os.Chmod(path, mode)
}

func splitPath(path string) (dir, name string) {
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ".", path
	}
	return path[:i+1], path[i+1:]
}

func onBtrfs(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

func ioctl(f *os.File, number uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// limitSubvolume limits a group that the subvolume is in, and with it every subvolume that
// is made below it: with simple quotas those are in their parent's groups. With the older
// kind they would be in none, and the application would have a way around its limit.
func limitSubvolume(d *os.File, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return err
	}
	if st.Ino != rootInode {
		return fmt.Errorf("%w: it is no subvolume; the next generation is one", ErrNone)
	}
	mode, err := groupMode(d)
	if err != nil {
		return err
	}
	if mode != "squota" {
		return fmt.Errorf("%w: quotas of btrfs: got mode %s, want squota (btrfs quota enable --simple)", ErrNone, mode)
	}
	own, above, err := quotaGroups(d)
	if err != nil {
		return err
	}
	out, err := outside(d)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	create := [2]uint64{1, above}
	if err := ioctl(out, groupCreate, unsafe.Pointer(&create)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make quota group: %w", err)
	}
	assign := [3]uint64{1, own, above}
	if err := ioctl(out, groupAssign, unsafe.Pointer(&assign)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("join quota group: %w", err)
	}
	return setLimit(out, above, uint64(size))
}

// quotaGroups are the group that a subvolume is alone, and the one above that is limited.
func quotaGroups(d *os.File) (own, above uint64, err error) {
	var lookup struct { // btrfs_ioctl_ino_lookup_args
		tree, object uint64
		name         [4080]byte
	}
	lookup.object = rootInode
	if err := ioctl(d, inodeLookup, unsafe.Pointer(&lookup)); err != nil {
		return 0, 0, fmt.Errorf("subvolume: %w", err)
	}
	const level = 48 // where the level stands in a group's number
	return lookup.tree, 1<<level | lookup.tree, nil
}

// outside opens the directory that a subvolume lies in. What is written on behalf of a
// descriptor counts where it leads, and a full subvolume has no room for its own limit.
func outside(d *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(d.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("directory of the subvolume: %w", err)
	}
	out := os.NewFile(uintptr(fd), d.Name()+"/..")
	theirs, err1 := fileSystem(out)
	ours, err2 := fileSystem(d)
	if err := errors.Join(err1, err2); err != nil || theirs != ours {
		return nil, errors.Join(fmt.Errorf("%w: a subvolume that is mounted itself", ErrNone), err, out.Close())
	}
	return out, nil
}

func setLimit(d *os.File, group, size uint64) error {
	const maxReferenced = 1
	limit := [6]uint64{group, maxReferenced, size} // btrfs_ioctl_qgroup_limit_args
	if err := ioctl(d, groupLimit, unsafe.Pointer(&limit)); err != nil {
		return fmt.Errorf("limit quota group: %w", err)
	}
	return nil
}

// Lift takes the limit from a directory that is about to be removed. On btrfs a full
// subvolume has no room for what its removal writes; elsewhere nothing has to be done.
func Lift(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lift limit: %w", err)
	}
	defer func() { _ = d.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || !onBtrfs(d) || st.Ino != rootInode {
		return err
	}
	_, above, err := quotaGroups(d)
	if err == nil {
		var out *os.File
		if out, err = outside(d); err == nil {
			const none = 1<<64 - 1
			err = errors.Join(setLimit(out, above, none), out.Close())
		}
	}
	if err == nil || errors.Is(err, ErrNone) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTCONN) { // it has none
		return nil
	}
	return fmt.Errorf("lift limit of %s: %w", dir, err)
}

// Thaw makes what is in and below a directory that can be removed: whoever may make a
// subvolume may make it one that nobody writes to. Elsewhere than on btrfs nothing has to be done.
func Thaw(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		var st unix.Stat_t
		if err := unix.Fstat(int(d.Fd()), &st); err != nil || !onBtrfs(d) || st.Ino != rootInode {
			return err
		}
		const readOnly = 1 << 1
		var flags uint64
		err = ioctl(d, subvolumeFlags, unsafe.Pointer(&flags))
		if err == nil && flags&readOnly != 0 {
			flags &^= readOnly
			err = ioctl(d, subvolumeMark, unsafe.Pointer(&flags))
		}
		if err != nil {
			return &os.PathError{Op: "make writable", Path: path, Err: err}
		}
		return nil
	})
}

// fileSystem is the number of the file system that a file is on.
func fileSystem(f *os.File) ([16]byte, error) {
	var info struct { // btrfs_ioctl_fs_info_args
		maxID, devices uint64
		id             [16]byte
		rest           [992]byte
	}
	if err := ioctl(f, fsInfo, unsafe.Pointer(&info)); err != nil {
		return info.id, fmt.Errorf("file system: %w", err)
	}
	return info.id, nil
}

// groupMode is how the file system counts: squota, qgroup or disabled.
func groupMode(d *os.File) (string, error) {
	i, err := fileSystem(d)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/fs/btrfs/%x-%x-%x-%x-%x/qgroups/mode", i[:4], i[4:6], i[6:8], i[8:10], i[10:]))
	if errors.Is(err, os.ErrNotExist) {
		return "disabled", nil // or a kernel without simple ones
	}
	return strings.TrimSpace(string(b)), err
}
