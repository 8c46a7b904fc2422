package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/vm"
)

// Descriptors of the process that becomes the application.
const (
	stageOrder  = 3
	stageReport = 4
)

// Stage becomes the application, or a command beside it. It returns only if it cannot.
func Stage() error {
	report := os.NewFile(stageReport, "report")
	unix.CloseOnExec(stageReport)
	err := stage()
	_, werr := fmt.Fprint(report, err)
	return errors.Join(err, werr)
}

func stage() error {
	var o vm.Order
	b, err := io.ReadAll(os.NewFile(stageOrder, "order"))
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	if err != nil {
		return err
	}
	unix.CloseOnExec(stageOrder)
	// What follows is this thread's, which is the one that is executed.
	runtime.LockOSThread()
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if err := confine(o); err != nil {
		return err
	}
	if err := os.Chdir(o.Cwd); err != nil {
		return err
	}
	path, err := look(o.Argv[0], o.Env)
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	return &os.PathError{Op: "exec", Path: path, Err: unix.Exec(path, o.Argv, o.Env)}
}

// confine takes everything from this thread that the application is not to have.
func confine(o vm.Order) error {
	for which, n := range map[int]int{unix.RLIMIT_NPROC: o.Pids, unix.RLIMIT_NOFILE: o.Files, unix.RLIMIT_CORE: 0, unix.RLIMIT_MEMLOCK: 64 << 10} {
		if err := unix.Setrlimit(which, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
			return fmt.Errorf("limit %d: %w", which, err)
		}
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, uintptr(o.GID), uintptr(o.GID), uintptr(o.GID)},
		{unix.SYS_SETRESUID, uintptr(o.UID), uintptr(o.UID), uintptr(o.UID)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("user %d:%d: %w", o.UID, o.GID, errno)
		}
	}
	// Root keeps its capabilities over the change to itself.
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// defaultPath is where commands lie if the environment does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// look finds a command as a shell does.
func look(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	dirs := defaultPath
	for _, e := range env {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = p
		}
	}
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH", name)
}
