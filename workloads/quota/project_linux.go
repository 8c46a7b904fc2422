package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNone is in the chain of an error about a file system that limits no directory.
var ErrNone = errors.New("the file system limits no directory here")

// fsxattr is the kernel's struct of that name (linux/include/uapi/linux/fs.h).
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	_                                             [8]byte
}

// The calls that read and write one, and the flag that new files get their directory's.
const (
	getAttr, setAttr = 0x801c581f, 0x401c5820
	inherit          = 0x200
)

// dqblk is struct if_dqblk (linux/include/uapi/linux/quota.h).
type dqblk struct {
	hard, soft           uint64 // in units of 1024 bytes
	space                uint64 // bytes
	inodeHard, inodeSoft uint64
	inodes               uint64
	blockTime, inodeTime uint64
	valid                uint32
	_                    uint32
}

// The commands of quotactl_fd for projects, and the fields that are set.
const (
	project              = 2
	getQuota, setQuota   = 0x800007<<8 | project, 0x800008<<8 | project
	limitBlocks, limitIn = 1, 4
)

// perInode is how many bytes of a limit go with one file: many empty files fill a file
// system, too.
const perInode = 4 << 10

// most is how many files of a directory get its project when it is limited first.
const most = 1 << 20

// Limit makes the file system keep what is below dir from taking more than size bytes,
// now and after every reboot, or says by ErrNone that it cannot. It needs root.
func Limit(dir string, size int64) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	defer func() { _ = d.Close() }()
	if onBtrfs(d) {
		if err := limitSubvolume(d, size); err != nil {
			return fmt.Errorf("limit %s: %w", dir, err)
		}
		return nil
	}
	var attr fsxattr
	if err := attr.get(d); err != nil {
		return fmt.Errorf("limit %s: %w: %w", dir, ErrNone, err)
	}
	id, fresh := attr.projid, false
	if id == 0 || attr.xflags&inherit == 0 {
		if id, err = free(d); err != nil {
			return fmt.Errorf("limit %s: %w", dir, err)
		}
		fresh = true
	}
	q := dqblk{hard: uint64(size) >> 10, soft: uint64(size) >> 10, inodeHard: uint64(size)/perInode + 16, valid: limitBlocks | limitIn}
	q.inodeSoft = q.inodeHard
	if err := control(d, setQuota, id, &q); err != nil {
		return fmt.Errorf("limit %s: %w", dir, err)
	}
	if fresh {
		if err := adopt(dir, d, id); err != nil {
			return fmt.Errorf("limit %s: %w", dir, err)
		}
	}
	// A file system that enforces the limit says so by the size that it shows here.
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return fmt.Errorf("limit %s: %w", dir, err)
	}
	if shown := int64(st.Blocks) * st.Bsize; shown > size+1<<20 {
		return fmt.Errorf("limit %s: %w: it counts and does not enforce", dir, ErrNone)
	}
	return nil
}

func (a *fsxattr) get(f *os.File) error { return a.call(f, getAttr) }

func (a *fsxattr) call(f *os.File, number uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}

// give makes a file one of the project.
func give(f *os.File, id uint32, directory bool) error {
	var a fsxattr
	if err := a.get(f); err != nil {
		return err
	}
	a.projid = id
	if directory {
		a.xflags |= inherit
	}
	return a.call(f, setAttr)
}

func control(d *os.File, command uintptr, id uint32, q *dqblk) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), command, uintptr(id), uintptr(unsafe.Pointer(q)), 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ESRCH, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL:
		return fmt.Errorf("%w: %w", ErrNone, errno)
	}
	return fmt.Errorf("quota of project %d: %w", id, errno)
}

// tries is how many project ids are looked at.
const tries = 1024

// free finds a project that holds nothing, by the directory's inode: two directories of a
// file system have two, as long as both are there.
func free(d *os.File) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return 0, err
	}
	for i := range uint32(tries) {
		id := (uint32(st.Ino)^uint32(st.Ino>>32))&0x3fffffff + 1<<30 + i
		var q dqblk
		err := control(d, getQuota, id, &q)
		if errors.Is(err, unix.ENOENT) || err == nil && q.space == 0 && q.inodes == 0 {
			return id, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("got %d projects in a row that hold something", tries)
}

// adopt gives a directory, and first all that lies below it, to a project. It follows no
// link. What no file can be opened of, such as a pipe, takes no room.
func adopt(dir string, d *os.File, id uint32) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	n := 0
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == "." || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		if n++; n > most {
			return fmt.Errorf("more than %d files", most)
		}
		f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return errors.Join(give(f, id, e.IsDir()), f.Close())
	})
	if err != nil {
		return err
	}
	return give(d, id, true) // last: a directory that has its project is done
}
