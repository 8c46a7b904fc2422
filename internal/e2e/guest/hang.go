package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// stuck stops everything, the guard too, so that only the watchdog is left.
func stuck() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == 1 {
			continue
		}
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && len(b) > 0 {
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				return err
			}
			say("stopped %q", b)
		}
	}
	hang()
	return nil
}

// hog takes the processor for ever, so that not even the guard runs: what is left is the
// watchdog, in an interrupt.
func hog() error {
	if err := os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0o644); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // for the guard to start the watchdog
	runtime.LockOSThread()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 99}, 0); err != nil {
		return err
	}
	say("nothing else runs now")
	//lint:ignore SA5002 it is there to take the processor
	for {
	}
}

// hang does nothing, for ever. A program without anything to wait for would be ended.
func hang() {
	for {
		time.Sleep(time.Hour)
	}
}

// The register that holds the address of a processor's interrupt controller, and whether it
// is on. Source: Intel's Software Developer's Manual, volume 4, IA32_APIC_BASE.
const (
	apicBase = 0x1b
	apicOn   = 1 << 11
)

// standstill turns the processor's interrupt controller off, so that no interrupt reaches
// the kernel any more, its timer's neither: everything that waits waits for ever, and what
// watches over it does, too. What is left is a watchdog in hardware.
func standstill() error {
	f, err := os.OpenFile("/dev/cpu/0/msr", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	register := make([]byte, 8)
	if _, err := f.ReadAt(register, apicBase); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // for the guard to start the watchdog
	say("no interrupt comes now")
	time.Sleep(100 * time.Millisecond) // for the console
	binary.LittleEndian.PutUint64(register, binary.LittleEndian.Uint64(register)&^apicOn)
	if _, err := f.WriteAt(register, apicBase); err != nil {
		return err
	}
	hang()
	return nil
}
