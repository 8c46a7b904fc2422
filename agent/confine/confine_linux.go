package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readable is where the system keeps what name resolution and TLS read. Files below /etc
// are replaced rather than written, so no list of single files would last; what is
// private there is closed to the fetcher's account.
var readable = []string{
	"/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki", "/var/lib/ca-certificates",
	"/usr/share/zoneinfo", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/netconfig",
}

// Writer takes from this process, and from what it starts, every socket but local ones
// and every call that it has no use for. It returns why that was not possible, or nil.
func Writer() error {
	return filter(writerRules())
}

// Fetcher leaves this process its open descriptors, the network, and the reading of what
// names and certificates need. It returns what was not possible, each with its reason.
func Fetcher() []error {
	var problems []error
	if err := landlock(append(certificates(), readable...)); err != nil {
		problems = append(problems, fmt.Errorf("landlock: %w", err))
	}
	if err := filter(fetcherRules()); err != nil {
		problems = append(problems, fmt.Errorf("system call filter: %w", err))
	}
	return problems
}

// certificates are the places that crypto/x509 is told to look at.
func certificates() []string {
	list := filepath.SplitList(os.Getenv("SSL_CERT_DIR"))
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		list = append(list, f)
	}
	return list
}

// filter puts rules on all threads.
func filter(rules []rule) error {
	if arch == 0 {
		return fmt.Errorf("no rules for %s", runtime.GOARCH)
	}
	p := program(arch, rules)
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// The kernel demands the flag of the calling thread, and hands both to the others.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	if tid != 0 {
		return fmt.Errorf("thread %d does not follow", tid)
	}
	return nil
}

// landlock allows reading below paths, and nothing else that touches a file system; and,
// where the kernel can, no TCP port of our own, no abstract socket and no signal to
// anybody outside.
func landlock(paths []string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("not offered by this kernel: %w", errno)
	}
	attr := unix.LandlockRulesetAttr{Access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1}
	size := unsafe.Sizeof(attr.Access_fs)
	if version >= 2 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		size += unsafe.Sizeof(attr.Access_net)
	}
	if version >= 5 {
		attr.Access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size += unsafe.Sizeof(attr.Scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("rule set: %w", errno)
	}
	rules := os.NewFile(fd, "landlock")
	defer func() { _ = rules.Close() }()
	for _, path := range paths {
		if err := allow(fd, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return restrict(fd)
}

// allow adds the right to read path, and what lies below, to a rule set. What is not
// there needs no rule.
func allow(rules uintptr, path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: unix.LANDLOCK_ACCESS_FS_READ_FILE, Parent_fd: int32(fd)}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		attr.Allowed_access |= unix.LANDLOCK_ACCESS_FS_READ_DIR
	}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// restrict puts a rule set on all threads. The Go runtime can do that, unless C code may
// have started threads that it does not know of.
func restrict(rules uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		return errors.New("not possible in a program that is built with cgo")
	}
	if errno != 0 {
		return fmt.Errorf("no new privileges: %w", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
		return fmt.Errorf("restrict: %w", errno)
	}
	return nil
}
