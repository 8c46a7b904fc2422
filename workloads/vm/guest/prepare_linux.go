package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/vm"
)

// prepare makes the application's root as it is to see it.
func (s *session) prepare() error {
	o := s.order
	if err := unix.Sethostname([]byte(o.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := await("the image's disk", exists("/dev/vda")); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", root, "erofs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount image: %w", err)
	}
	const plain = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	owner := fmt.Sprintf("uid=%d,gid=%d,size=%d", o.UID, o.GID, o.Tmp/2)
	for _, m := range []struct {
		kind, at, options string
		flags             uintptr
	}{
		{"proc", "/proc", "hidepid=2", plain},
		{"tmpfs", "/dev", "mode=755,size=64k", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/tmp", "mode=1777," + owner, plain},
		{"tmpfs", "/run", "mode=755," + owner, plain},
	} {
		if err := mountIn(m.kind, m.at, m.kind, m.flags, m.options); err != nil {
			return err
		}
	}
	if err := devices(); err != nil {
		return err
	}
	for i, v := range o.Volumes {
		if err := volume(i, v); err != nil {
			return err
		}
	}
	if !o.Network {
		return up("lo", "", "")
	}
	return network()
}

func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

// mountIn mounts in the image, on a directory that no link leads to.
func mountIn(source, at, kind string, flags uintptr, options string) error {
	return onPath(at, unix.O_DIRECTORY, func(target string) error {
		return unix.Mount(source, target, kind, flags, options)
	})
}

// onPath does something with a path in the image, by a name that cannot change.
func onPath(at string, flags uint64, do func(target string) error) error {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer func() { _ = unix.Close(base) }()
	fd, err := unix.Openat2(base, "."+at, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("image: want %s, and no link on the way to it: %w", at, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := do("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// devices are those that every program expects.
func devices() error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		path := root + "/dev/" + d.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("device %s: %w", d.name, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // past the umask
			return err
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, root+"/dev/"+link); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(root+"/dev/"+dir, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		mountIn("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "ptmxmode=0666,mode=0620,newinstance"),
		mountIn("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "mode=1777"))
}

// volume mounts the disk of a volume, and lets its file system grow to what the disk has
// become.
func volume(n int, v vm.Volume) error {
	disk := "/dev/vd" + string(rune('b'+n))
	if err := await("the disk of "+v.Path, exists(disk)); err != nil {
		return err
	}
	if err := mountIn(disk, v.Path, "ext4", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return err
	}
	return onPath(v.Path, unix.O_DIRECTORY, func(target string) error { return grow(target, disk) })
}

// growCall is EXT4_IOC_RESIZE_FS: _IOW('f', 16, __u64), of linux/fs/ext4/ext4.h.
const growCall = 0x40086610

func grow(dir, disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return err
	}
	// A file system says a little less than its disk; so much more is a larger disk.
	if blocks := uint64(size) / uint64(st.Bsize); blocks > uint64(st.Blocks)+uint64(st.Blocks)/8+16<<20/uint64(st.Bsize) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), growCall, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
			return fmt.Errorf("grow to %d blocks: %w", blocks, errno)
		}
	}
	return nil
}
