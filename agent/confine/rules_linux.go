//go:build linux && (amd64 || arm64)

package confine

import "golang.org/x/sys/unix"

// nobodys are calls that neither process has a use for: they look into other processes,
// change the machine, or are doors past the rules on files and sockets.
var nobodys = always(
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_PERSONALITY,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
)

// namespaces are the flags of clone that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// writing are the flags of open that ask for more than reading.
const writing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC

// family is the bits of socket's first argument, variety those of its second without
// the flags above them.
const (
	family  = 0xffffffff
	variety = 0xf
)

// writerRules: the half that has the right to write has no network, and is no way to
// one. What it starts (the operator's own probes, the reboot) inherits the rules.
func writerRules() []rule {
	return join(nobodys, oldNobodys,
		[]rule{
			unless(unix.SYS_SOCKET, 0, family, unix.AF_UNIX),
			unless(unix.SYS_SOCKETPAIR, 0, family, unix.AF_UNIX),
			ifAny(unix.SYS_CLONE, 0, namespaces),
		},
		// Its flags lie in memory, where a filter does not see them.
		absent(unix.SYS_CLONE3),
	)
}

// fetcherRules: the half that has a network starts nothing, writes no file, becomes
// nobody else, signals nobody, and makes no memory executable.
func fetcherRules() []rule {
	return join(nobodys, oldNobodys, oldFetcher,
		always(
			unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_KILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_REBOOT,
			unix.SYS_MKNODAT, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT,
			unix.SYS_SYMLINKAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
			unix.SYS_TRUNCATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_UTIMENSAT,
			unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
			unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID,
			unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET,
			unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_MEMFD_CREATE,
			unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_MSGGET, unix.SYS_SEMGET, unix.SYS_MQ_OPEN,
		),
		[]rule{
			unless(unix.SYS_SOCKET, 0, family, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6),
			unless(unix.SYS_SOCKET, 1, variety, unix.SOCK_STREAM, unix.SOCK_DGRAM),
			unless(unix.SYS_SOCKETPAIR, 0, family, unix.AF_UNIX),
			ifAny(unix.SYS_OPENAT, 2, writing),
			ifAny(unix.SYS_CLONE, 0, namespaces),
			ifNone(unix.SYS_CLONE, 0, unix.CLONE_THREAD),
			ifAny(unix.SYS_MMAP, 2, unix.PROT_EXEC),
			ifAny(unix.SYS_MPROTECT, 2, unix.PROT_EXEC),
			ifAny(unix.SYS_PKEY_MPROTECT, 2, unix.PROT_EXEC),
		},
		absent(unix.SYS_CLONE3, unix.SYS_OPENAT2),
	)
}

func join(lists ...[]rule) []rule {
	var all []rule
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
