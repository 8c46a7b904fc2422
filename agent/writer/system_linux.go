package writer

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the machine's.
type clock struct{}

// Now returns the time with its monotonic part, so that differences do not jump.
func (clock) Now() time.Time { return time.Now() }

// Sleep returns after d, or earlier with ctx's error.
func (clock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sinceBoot is how long the machine has been up, time asleep included. A trial is
// judged by it, so that an agent which starts again does not begin the deadline anew.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// sinceNow returns the time since this call.
func sinceNow() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// rebootTime is how long the reboot command may take to return.
const rebootTime = 30 * time.Second

// rebooter returns a function that runs the command once and returns.
func rebooter(argv []string) func(context.Context) error {
	return func(ctx context.Context) error {
		// The machine is about to go down, and with it whoever asked: the command is
		// not taken back when they do.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = bytes.TrimSpace(out)
			return fmt.Errorf("%s: %w: %.500s", argv[0], err, out)
		}
		return nil
	}
}

// buildTime is the time of the commit that this program was built from, before which
// no clock is believed; zero if it is not known.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
