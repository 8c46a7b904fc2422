package pace

import (
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// How late a timer may be (prctl(2), PR_SET_TIMERSLACK).
const (
	// Exact is what processes begin with.
	Exact = 50 * time.Microsecond
	// Lazy is for a program that waits for most of its life: a thread of Go's runtime wakes up
	// again and again while anything runs, at first as often as timers let it, which takes more
	// of the processor than a start of a small program does.
	Lazy = time.Millisecond
)

// Start starts c, with late as what its own timers and those of what it starts may be late by.
// They inherit it.
func Start(c *exec.Cmd, late time.Duration) error {
	runtime.LockOSThread() // it is the thread's, and that of the thread that starts the process
	defer runtime.UnlockOSThread()
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("exactness of timers: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(late), 0, 0, 0); err != nil {
		return fmt.Errorf("exactness of timers: %w", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(own), 0, 0, 0) }()
	return c.Start()
}

// Run is Start that waits for the end.
func Run(c *exec.Cmd, late time.Duration) error {
	if err := Start(c, late); err != nil {
		return err
	}
	return c.Wait()
}
