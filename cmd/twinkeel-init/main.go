package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/boot"
	"github.com/twinkeel/twinkeel/workloads/vm/guest"
)

func main() {
	ctx := context.Background()
	if os.Args[0] == boot.GuardName {
		if err := boot.RunGuard(ctx, say); !errors.Is(err, boot.ErrLeave) {
			say("guard: %v", err)
			os.Exit(1)
		}
		reboot()
	}
	if os.Args[0] == guest.StageName {
		fmt.Fprintln(os.Stderr, guest.Stage())
		os.Exit(127)
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "twinkeel-init: is the init of an initramfs, and nothing else")
		os.Exit(2)
	}
	if guest.Wanted() {
		if err := guest.Run(say); err != nil {
			say("%v", err)
		}
		powerOff()
	}
	s := boot.Stage{Say: say}
	if err := s.Run(ctx); err != nil {
		say("%v", err)
	}
	reboot()
}

// say writes a line to the kernel's log, at a level that "quiet" lets through to the
// console.
func say(format string, args ...any) {
	line := fmt.Sprintf("twinkeel-init: "+format, args...)
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(line)
		return
	}
	defer f.Close()
	// Without its end, readers of the log would see the line only when the next one came.
	if _, err := fmt.Fprintf(f, "<3>%s\n", line); err != nil {
		fmt.Println(line)
	}
}

// syncLimit is how long what was written may take to reach a disk that perhaps hangs.
const syncLimit = 5 * time.Second

// powerOff ends a machine that ran an application.
func powerOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("power off: %v", err)
	}
	select {}
}

// reboot ends the boot, whatever runs.
func reboot() {
	done := make(chan struct{})
	go func() { unix.Sync(); close(done) }()
	select {
	case <-done:
	case <-time.After(syncLimit):
	}
	time.Sleep(200 * time.Millisecond) // for the console
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		say("reboot: %v", err)
	}
	select {}
}
