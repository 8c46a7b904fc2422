//go:build linux && amd64

package main

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// none is an argument that no call accepts: a descriptor, a set of flags, a pointer.
const none = ^uintptr(0)

func calls() map[string]attempt {
	return map[string]attempt{
		"bpf":               call(unix.SYS_BPF, 5, 0, 0),
		"perf-event-open":   call(unix.SYS_PERF_EVENT_OPEN, 0, 0, none, none, 0),
		"io-uring-setup":    call(unix.SYS_IO_URING_SETUP, 0, 0),
		"io-uring-enter":    call(unix.SYS_IO_URING_ENTER, none, 0, 0, 0, 0, 0),
		"io-uring-register": call(unix.SYS_IO_URING_REGISTER, none, 0, 0, 0),
		"userfaultfd":       call(unix.SYS_USERFAULTFD, 0x7fffffff),
		"add-key":           call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0),
		"request-key":       call(unix.SYS_REQUEST_KEY, 0, 0, 0, 0),
		"keyctl":            call(unix.SYS_KEYCTL, 0, none-1, 0),
		"open-by-handle-at": call(unix.SYS_OPEN_BY_HANDLE_AT, none, 0, 0),
		"name-to-handle-at": call(unix.SYS_NAME_TO_HANDLE_AT, none, 0, 0, 0, 0),
		"ptrace":            call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 0, 0, 0),
		"process-vm-readv":  call(unix.SYS_PROCESS_VM_READV, uintptr(unix.Getpid()), 0, 0, 0, 0, 0),
		"process-vm-writev": call(unix.SYS_PROCESS_VM_WRITEV, uintptr(unix.Getpid()), 0, 0, 0, 0, 0),
		"process-madvise":   call(unix.SYS_PROCESS_MADVISE, none, 0, 0, 0, 0),
		"kcmp":              call(unix.SYS_KCMP, 0, 0, 99, 0, 0),
		"pidfd-getfd":       call(unix.SYS_PIDFD_GETFD, none, none, 0),
		"memfd-secret":      call(unix.SYS_MEMFD_SECRET, 0x7fffffff),
		"vmsplice":          call(unix.SYS_VMSPLICE, none, 0, 0, 0),
		"modify-ldt":        call(unix.SYS_MODIFY_LDT, 0, 0, 0),
		"remap-file-pages":  call(unix.SYS_REMAP_FILE_PAGES, 0, 0, 0, 0, 0),
		"move-pages":        call(unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, 0),
		"migrate-pages":     call(unix.SYS_MIGRATE_PAGES, 0, 0, 0, 0),
		"mbind":             call(unix.SYS_MBIND, 0, 0, 99, 0, 0, 0),
		"set-mempolicy":     call(unix.SYS_SET_MEMPOLICY, 99, 0, 0),
		"fanotify-init":     call(unix.SYS_FANOTIFY_INIT, 0x7fffffff, 0),
		"lookup-dcookie":    call(unix.SYS_LOOKUP_DCOOKIE, 0, 0, 0),
		"quotactl":          call(unix.SYS_QUOTACTL, 0x7fffffff, 0, 0, 0),
		"quotactl-fd":       call(unix.SYS_QUOTACTL_FD, none, 0x7fffffff, 0, 0),
		"syslog":            call(unix.SYS_SYSLOG, 10, 0, 0),
		"acct":              call(unix.SYS_ACCT, text("/no/such/file")),
		"vhangup":           call(unix.SYS_VHANGUP),
		"uselib":            call(unix.SYS_USELIB, text("/no/such/file")),
		"ustat":             call(unix.SYS_USTAT, none, 0),
		"sysfs":             call(unix.SYS_SYSFS, 3),

		"mount":         call(unix.SYS_MOUNT, text("none"), text("/tmp"), text("no-such-type"), 0, 0),
		"umount":        call(unix.SYS_UMOUNT2, text("/no/such/file"), 0),
		"pivot-root":    call(unix.SYS_PIVOT_ROOT, text("/no/such/file"), text("/no/such/file")),
		"chroot":        call(unix.SYS_CHROOT, text("/")),
		"open-tree":     call(unix.SYS_OPEN_TREE, none, text("/"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC),
		"move-mount":    call(unix.SYS_MOVE_MOUNT, none, 0, none, 0, 0),
		"fsopen":        call(unix.SYS_FSOPEN, text("no-such-type"), 0),
		"fsconfig":      call(unix.SYS_FSCONFIG, none, 0, 0, 0, 0),
		"fsmount":       call(unix.SYS_FSMOUNT, none, 0, 0),
		"fspick":        call(unix.SYS_FSPICK, none, 0, 0),
		"mount-setattr": call(unix.SYS_MOUNT_SETATTR, none, 0, 0, 0, 0),
		// A process with threads is refused a user namespace as an invalid argument: had
		// it none, it would have got one.
		"unshare-user":  call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"unshare-net":   call(unix.SYS_UNSHARE, unix.CLONE_NEWNET),
		"unshare-mount": call(unix.SYS_UNSHARE, unix.CLONE_NEWNS),
		"clone-user":    call(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS, 0, 0, 0, 0),
		"setns":         call(unix.SYS_SETNS, none, 0),
		"mknod-char":    node(unix.S_IFCHR, int(unix.Mkdev(1, 3))),
		"mknod-block":   node(unix.S_IFBLK, int(unix.Mkdev(7, 200))),
	}
}

func more() map[string]attempt {
	return map[string]attempt{
		"init-module":     call(unix.SYS_INIT_MODULE, 0, 0, 0),
		"finit-module":    call(unix.SYS_FINIT_MODULE, none, 0, 0),
		"delete-module":   call(unix.SYS_DELETE_MODULE, text("no_such_module"), 0),
		"kexec-load":      call(unix.SYS_KEXEC_LOAD, 0, 1000, 0, 0),
		"kexec-file-load": call(unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, 0x7fffffff),
		"reboot":          call(unix.SYS_REBOOT, 1, 2, 3, 0),
		"swapon":          call(unix.SYS_SWAPON, text("/no/such/file"), 0),
		"swapoff":         call(unix.SYS_SWAPOFF, text("/no/such/file")),
		"settimeofday":    call(unix.SYS_SETTIMEOFDAY, 0, 0),
		"clock-settime":   call(unix.SYS_CLOCK_SETTIME, 0, 0),
		"clock-adjtime": func() error {
			// A tick of zero is invalid, and whether one may set it is asked first.
			_, err := unix.ClockAdjtime(0, &unix.Timex{Modes: unix.ADJ_TICK})
			return err
		},
		"sethostname":   call(unix.SYS_SETHOSTNAME, 0, 3),
		"setdomainname": call(unix.SYS_SETDOMAINNAME, 0, 3),
		"iopl":          call(unix.SYS_IOPL, 3),
		"ioperm":        call(unix.SYS_IOPERM, 0x80, 1, 1),
		"personality": func() error {
			if _, _, e := unix.RawSyscall(unix.SYS_PERSONALITY, 0x40000, 0, 0); e != 0 {
				return e
			}
			return call(unix.SYS_PERSONALITY, 0)()
		},
		"setpriority":    func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
		"sched-realtime": realtime,
		"rlimit-raise": func() error {
			var l unix.Rlimit
			if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &l); err != nil {
				return errors.Join(errMute, err)
			}
			l.Max++
			return unix.Prlimit(0, unix.RLIMIT_NOFILE, &l, nil)
		},
		"setuid-root": call(unix.SYS_SETUID, 0),
		"capset": func() error {
			head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			all := [2]unix.CapUserData{{Effective: 1 << 21, Permitted: 1 << 21}}
			return unix.Capset(&head, &all[0])
		},
	}
}

// realtime asks for a real-time class and gives it back.
func realtime() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return err
	}
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0)
}

// node makes a device in a place where it may write, and takes it away.
func node(mode uint32, device int) attempt {
	return func() error {
		err := unix.Mknod("/tmp/node", mode|0o600, device)
		_ = unix.Unlink("/tmp/node")
		return err
	}
}

// text is a string for the kernel. Nothing keeps it but its address, which is why main
// turns the garbage collector off.
func text(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		return 0
	}
	return uintptr(unsafe.Pointer(b))
}
