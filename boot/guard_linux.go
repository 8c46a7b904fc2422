package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/boot/devmapper"
	"github.com/twinkeel/twinkeel/boot/report"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Guard watches a boot from outside of what it booted.
type Guard struct {
	Order   Order
	Loader  bootloader.BootLoader     // nil: the record cannot be read
	Damaged func() (bool, error)      // has the root met damage?
	Settled func() error              // the boot came through
	Keep    func(context.Context)     // keeps the kernel's log where the next boot finds it
	Report  func(damage string) error // tells the system that runs
	Dog     Dog                       // nil: there is no watchdog
	Say     func(format string, args ...any)
	Uptime  func() time.Duration
	Wait    func(context.Context, time.Duration) error
}

// Dog is a watchdog: it resets the machine unless it is stroked.
type Dog interface {
	Stroke() error
	Release() error // it lets the machine be
}

const (
	beat      = time.Second // of the guard's heart
	recordGap = 2           // beats between two looks at the boot record
	keepGap   = 10          // beats, in a trial, between two times that the kernel's log is kept
	keepLimit = 5 * time.Second
)

// ErrLeave is what Run returns when the machine has to be rebooted.
var ErrLeave = errors.New("this boot has to end")

// Run guards until ctx ends or the boot has to. A trial whose record says neither
// committed nor left by the order's deadline is left; so is, at any time, a slot whose
// root is damaged, unless there is no other to go to.
func (g *Guard) Run(ctx context.Context) error {
	trial, damageSeen, settled := g.Order.Trial, false, false
	if trial && g.Order.Record == None {
		g.Say("no dead-man: twinkeel.record does not say where a commit would be seen")
		trial = false
		g.release()
	}
	for n := 0; ; n++ {
		if trial && n%recordGap == 0 && g.committed(ctx) {
			trial = false
			g.release()
		}
		if trial {
			g.stroke()
			if n%keepGap == keepGap/2 {
				go g.keepNow(ctx) // a data partition that hangs must not hold up the dead-man
			}
			if g.Uptime() >= g.Order.Deadman {
				g.Say("no commit within %s: leaving slot %s", g.Order.Deadman, g.Order.Slot)
				return g.leave(ctx)
			}
		}
		if !damageSeen {
			if bad, err := g.Damaged(); err == nil && bad {
				damageSeen = true
				g.Say("the root of slot %s is damaged", g.Order.Slot)
				if err := g.leave(ctx); !errors.Is(err, errNoWay) {
					return err
				}
				g.Say("there is no other slot to go to: staying up, what cannot be read is an input/output error")
				text := fmt.Sprintf("a block of slot %s's root is not what was signed: what lies there cannot be read", g.Order.Slot)
				if err := g.Report(text); err != nil {
					g.Say("report of the damage: %v", err)
				}
			}
		}
		if !settled && g.Uptime() >= g.Order.Settle {
			if settled = true; g.Settled() != nil {
				g.Say("count of boots: cannot be written")
			}
		}
		if err := g.Wait(ctx, beat); err != nil {
			g.release()
			return err
		}
	}
}

// committed reports whether the trial is over, as the boot record says.
func (g *Guard) committed(ctx context.Context) bool {
	if g.Loader == nil {
		return false
	}
	s, err := g.Loader.Load(ctx)
	return err == nil && s.Slots[g.Order.Slot].Successful && s.Slots[g.Order.Slot].Priority > 0
}

// leave makes the other slot the one that stands. A trial ends by a reboot even if that
// cannot be written, because the loader counts it. What the kernel has to say is kept for
// the other slot, if that does not take long.
func (g *Guard) leave(ctx context.Context) error {
	defer g.keepNow(ctx)
	err := errNoWay
	if g.Loader != nil {
		err = leave(ctx, g.Loader, g.Order.Slot)
	}
	if err != nil {
		g.Say("leaving slot %s: %v", g.Order.Slot, err)
	}
	if err != nil && !g.Order.Trial {
		return errNoWay
	}
	return ErrLeave
}

// keepNow keeps the kernel's log and waits for that, but not for ever.
func (g *Guard) keepNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keepLimit)
	defer cancel()
	done := make(chan struct{})
	go func() { g.Keep(ctx); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (g *Guard) stroke() {
	if g.Dog == nil {
		return
	}
	if err := g.Dog.Stroke(); err != nil {
		g.Say("watchdog: %v", err)
		g.Dog = nil
	}
}

func (g *Guard) release() {
	if g.Dog == nil {
		return
	}
	if err := g.Dog.Release(); err != nil {
		g.Say("watchdog: %v", err)
	}
	g.Dog = nil
}

// RunGuard guards this machine, as the process that the first stage leaves behind, and
// returns when the machine has to be rebooted.
func RunGuard(ctx context.Context, say func(string, ...any)) error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	o, err := ParseOrder(string(line))
	if err != nil {
		return err
	}
	keep := keeper{dir: filepath.Join("/data", layersDir), order: o, say: say, one: make(chan struct{}, 1)}
	g := Guard{Order: o, Say: say, Uptime: uptime, Wait: wait, Keep: keep.keep, Report: func(text string) error { return report.SaveDamage(report.DamageFile, text) }, Settled: func() error {
		err := os.Remove(unsettledFile("/data", o))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return errors.Join(err, syncFS("/data"))
	}}
	if o.Record != None {
		if g.Loader, err = openRecord("/boot"); err != nil {
			say("%v", err)
		}
	}
	c, err := devmapper.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	g.Damaged = func() (bool, error) { return c.Damaged(rootDevice) }
	if o.Trial && o.Watchdog != None {
		if dog, err := openDog(o.Watchdog); err == nil {
			g.Dog = dog
		} else {
			say("watchdog: %v", err)
		}
	}
	return g.Run(ctx)
}

// uptime is how long this boot has lasted.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0 // it never fails on Linux
	}
	return time.Duration(t.Nano())
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
