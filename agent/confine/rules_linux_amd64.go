package confine

import "golang.org/x/sys/unix"

// arch is what the kernel calls this architecture.
const arch = unix.AUDIT_ARCH_X86_64

// Calls that newer architectures do without.
var (
	oldNobodys = always(unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS__SYSCTL)
	oldFetcher = append(always(
		unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_CREAT, unix.SYS_MKNOD, unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK,
		unix.SYS_RENAME, unix.SYS_LINK, unix.SYS_SYMLINK, unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN,
		unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT,
	), ifAny(unix.SYS_OPEN, 1, writing))
)
