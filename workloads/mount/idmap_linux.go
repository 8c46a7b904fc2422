package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// IDs is a range of user and group ids of the host that stands for 0 and up in a user
// namespace.
type IDs struct {
	First, Size uint32
}

// Mapping is a range of ids that mounts can be made for. Close it when they are.
type Mapping struct {
	namespace *os.File
}

// Map makes a mapping to ids. It needs root.
func Map(ids IDs) (*Mapping, error) {
	f, err := namespace(ids)
	if err != nil {
		return nil, fmt.Errorf("user namespace for ids from %d: %w", ids.First, err)
	}
	return &Mapping{namespace: f}, nil
}

// Mapped is the mapping that a file is for: one of Map's, in another process.
func Mapped(f *os.File) *Mapping { return &Mapping{namespace: f} }

// File stands for the mapping where another process is to have it.
func (m *Mapping) File() *os.File { return m.namespace }

// Close lets go of the mapping; mounts made for it stay.
func (m *Mapping) Close() error { return m.namespace.Close() }

// namespace makes a user namespace. The kernel makes none without a process; this one is
// stopped before its first instruction, and killed.
func namespace(ids IDs) (*os.File, error) {
	runtime.LockOSThread() // the thread that traces is the one that waits
	defer runtime.UnlockOSThread()
	ranges := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids.First), Size: int(ids.Size)}}
	p, err := os.StartProcess("/proc/self/exe", []string{"namespace"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ranges, GidMappings: ranges, Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	kill := p.Kill()
	var status unix.WaitStatus
	for {
		if _, e := unix.Wait4(p.Pid, &status, 0, nil); e == nil && !status.Exited() && !status.Signaled() || errors.Is(e, unix.EINTR) {
			continue // the stop that a trace begins with
		}
		break
	}
	_ = p.Release()
	if err == nil && kill != nil {
		err = errors.Join(kill, f.Close())
	}
	return f, err
}

// Bind mounts the directory from at dir a second time, with the mapping's ids in place of
// its own, without devices and without setuid. It follows no link at the end of from.
func (m *Mapping) Bind(from, dir string, readOnly bool) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	defer func() { _ = unix.Close(fd) }()
	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(m.namespace.Fd()),
	}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("bind %s with other ids (its file system or the kernel may not know how): %w", from, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s at %s: %w", from, dir, err)
	}
	return nil
}
