//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shared looks for what no namespace divides: inodes that others open, terminals that
// others type into, and other ways to what is covered.
func shared() map[string]attempt {
	masked := []string{"kcore", "kallsyms", "keys", "key-users", "timer_list", "interrupts", "modules", "iomem"}
	changed := []string{"sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/vm/overcommit_memory", "sysrq-trigger"}
	return map[string]attempt{
		"fanotify-mark":    call(unix.SYS_FANOTIFY_MARK, none, 0x7fffffff, 0, none, 0),
		"inotify-devices":  heard("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"),
		"inotify-files":    heard("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd", "/etc", "/"),
		"masked-by-link":   func() error { return readable(around(masked)...)() },
		"readonly-by-link": func() error { return writable(around(changed)...)() },
		"terminal-typed":   typed,
	}
}

// heard wants to notice that others open a file. Whoever runs the probes opens those of
// the host all the time. What is heard at first may be the end of the runtime that has
// started this process: it had the container's own files open, and is nobody else's.
func heard(paths ...string) attempt {
	return func() error {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		watched := map[int32]string{}
		for _, p := range paths {
			if w, err := unix.InotifyAddWatch(fd, p, unix.IN_OPEN|unix.IN_CLOSE); err == nil {
				watched[int32(w)] = p
			}
		}
		for i := range 60 {
			var event [4096]byte
			if n, err := unix.Read(fd, event[:]); n >= unix.SizeofInotifyEvent && err == nil && i >= 30 {
				e := (*unix.InotifyEvent)(unsafe.Pointer(&event))
				return fmt.Errorf("%s is opened or closed: %.40q", watched[e.Wd], event[unix.SizeofInotifyEvent:n])
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("%w: nothing was heard of %d files", errClosed, len(watched))
	}
}

// around are other ways to files of /proc: links, and directories that lead to the root.
func around(names []string) (paths []string) {
	for i, name := range names {
		link := "/tmp/probe-link-" + strconv.Itoa(i)
		_ = os.Remove(link)
		if os.Symlink("/proc/"+name, link) == nil {
			paths = append(paths, link)
		}
		for _, way := range []string{"/proc/self/root/proc/", "/proc/1/root/proc/", "/proc/thread-self/root/proc/", "/dev/fd/../../", "/proc/self/task/../../"} {
			paths = append(paths, way+name)
		}
	}
	return paths
}

// typed wants a terminal to believe that somebody typed into it. It is a terminal of its
// own, which it has every right to: where that works it works on a shared one.
func typed() error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: there are no terminals: %w", errClosed, err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(master) }()
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("%w: unlock a terminal: %w", errMute, err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("%w: number of a terminal: %w", errMute, err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	defer func() { _ = terminal.Close() }()
	c := exec.Command("/proc/self/exe", "type")
	c.Stdin = terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	code, err := strconv.Atoi(string(out))
	if err != nil {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	switch e := unix.Errno(code); e {
	case 0:
		return nil
	case unix.EIO, unix.ENOTTY: // the kernel does it for nobody, or does not know of it
		return fmt.Errorf("%w: %w", errClosed, e)
	default:
		return e
	}
}

// typeIn is the other half of typed: the terminal is the one that controls this process.
func typeIn() unix.Errno {
	c := byte('x')
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
	return e
}
