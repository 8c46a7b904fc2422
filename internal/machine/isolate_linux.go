package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// isolated marks the environment of the process that Isolate started.
const isolated = "TWINKEEL_MACHINE_ISOLATED"

// Isolate runs this program again with mounts and processes of its own, waits for it
// and returns its exit code. When that process ends, even by SIGKILL, the kernel ends
// all that it started, drops its mounts and with them its loop devices. In the new
// process, and only there, ours is true and the caller goes on. It needs root.
func Isolate(ctx context.Context) (ours bool, code int, err error) {
	if os.Getenv(isolated) != "" {
		os.Unsetenv(isolated)
		// What is mounted from here on must not show outside.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return false, 1, fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return false, 1, fmt.Errorf("mount /proc: %w", err)
		}
		return true, 0, nil
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	// The kernel counts the death of the thread that started a child as its parent's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, 0, nil
	case errors.As(err, &exit):
		return false, max(1, exit.ExitCode()), nil
	}
	return false, 1, fmt.Errorf("start in namespaces of its own: %w", err)
}
