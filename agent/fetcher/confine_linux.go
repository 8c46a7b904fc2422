package fetcher

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	nobody    = 65534
	maxFiles  = 256
	maxTasks  = 512 // of the whole account, which may be shared when it is nobody's
	lastKnown = 63  // capabilities are numbered up to this at most
)

// limits are what the process may use. Without an account of its own the number of
// tasks is left alone: it would count everything that the person at the keyboard runs.
func limits(memory int64, ownAccount bool) wire.Limits {
	l := wire.Limits{Memory: uint64(memory), Files: maxFiles}
	if ownAccount {
		l.Tasks = maxTasks
	}
	return l
}

// credential returns the account to run as: name's, or nobody's when there is none.
// It has no supplementary group.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return &syscall.Credential{Uid: nobody, Gid: nobody}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", name, err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr); err != nil {
		return nil, fmt.Errorf("account %s: %w", name, err)
	}
	if uid == 0 || gid == 0 {
		return nil, fmt.Errorf("account %s: got uid %d and gid %d, want both above zero", name, uid, gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// confineThread takes from the calling thread, and so from every process it starts,
// the chance to gain a privilege. Descriptors that somebody left open across exec are
// closed there.
func confineThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if os.Geteuid() == 0 {
		for c := uintptr(0); c <= lastKnown; c++ {
			err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
				// One behind the last that this kernel knows; or a writer without CAP_SETPCAP,
				// for whom the other user and the flag above have to do, and do.
				break
			}
			if err != nil {
				return fmt.Errorf("capability bounding set: %w", err)
			}
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("open descriptors: %w", err)
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
