package boot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// fakeLoader is a record in memory.
type fakeLoader struct {
	bootloader.BootLoader
	state  bootloader.State
	broken error
}

func (l *fakeLoader) Load(context.Context) (bootloader.State, error) { return l.state, l.broken }

func (l *fakeLoader) Store(_ context.Context, s bootloader.State) error {
	if l.broken == nil {
		l.state = s
	}
	return l.broken
}

type fakeDog struct{ strokes, released int }

func (d *fakeDog) Stroke() error  { d.strokes++; return nil }
func (d *fakeDog) Release() error { d.released++; return nil }

// watch is a guard over fakes; at each beat the clock goes on and then is called.
type watch struct {
	Guard
	loader  *fakeLoader
	dog     *fakeDog
	said    []string
	settled int
	kept    atomic.Int32
	damage  []string
}

func newWatch(t *testing.T, s bootloader.State, trial bool, at func(w *watch, second int)) *watch {
	t.Helper()
	w := &watch{loader: &fakeLoader{state: s}, dog: &fakeDog{}}
	now := 0
	w.Guard = Guard{
		Order:   Order{Slot: partitions.B, Trial: trial, Deadman: 90 * time.Second, Settle: 120 * time.Second},
		Loader:  w.loader,
		Damaged: func() (bool, error) { return false, nil },
		Settled: func() error { w.settled++; return nil },
		Keep:    func(context.Context) { w.kept.Add(1) },
		Report:  func(text string) error { w.damage = append(w.damage, text); return nil },
		Say:     func(f string, args ...any) { w.said = append(w.said, fmt.Sprintf(f, args...)) },
		Uptime:  func() time.Duration { return time.Duration(now) * time.Second },
		Wait: func(context.Context, time.Duration) error {
			if now++; now > 600 {
				return context.Canceled
			}
			at(w, now)
			return nil
		},
	}
	if trial {
		w.Dog = w.dog
	}
	return w
}

var (
	onTrial   = bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 2}}}
	committed = bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Successful: true}}}
	alone     = bootloader.State{Slots: [2]bootloader.Record{{}, {Priority: 2, Successful: true}}}
)

func TestATrialThatNobodyCommitsIsLeft(t *testing.T) {
	w := newWatch(t, onTrial, true, func(*watch, int) {})
	if err := w.Run(t.Context()); !errors.Is(err, ErrLeave) {
		t.Fatalf("got %v", err)
	}
	if got := w.Uptime(); got != 90*time.Second {
		t.Errorf("left after %s, want 90s", got)
	}
	if r := w.loader.state.Slots; r[partitions.B].Priority != 0 || r[partitions.A].Priority != 2 || !r[partitions.A].Successful {
		t.Errorf("record: got %+v", r)
	}
	if w.kept.Load() == 0 {
		t.Error("the kernel's log was not kept for the other slot")
	}
	if w.dog.strokes < 90 || w.dog.released != 0 {
		t.Errorf("watchdog: got %+v: it has to go on, in case the reboot hangs", w.dog)
	}
}

func TestACommittedTrialIsLetBe(t *testing.T) {
	w := newWatch(t, onTrial, true, func(w *watch, second int) {
		if second == 60 {
			w.loader.state = committed
		}
	})
	if err := w.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if w.dog.released != 1 || w.dog.strokes > 62 || w.settled != 1 {
		t.Errorf("got %+v, settled %d times", w.dog, w.settled)
	}
	if w.loader.state != committed {
		t.Errorf("record: got %+v", w.loader.state)
	}
}

func TestATrialWhoseRecordCannotBeWrittenEndsByAReboot(t *testing.T) {
	w := newWatch(t, onTrial, true, func(w *watch, _ int) { w.loader.broken = errors.New("read-only") })
	if err := w.Run(t.Context()); !errors.Is(err, ErrLeave) {
		t.Fatalf("got %v", err)
	}
	w = newWatch(t, onTrial, true, func(*watch, int) {})
	w.Loader = nil
	if err := w.Run(t.Context()); !errors.Is(err, ErrLeave) {
		t.Fatalf("with a record that cannot be read: got %v", err)
	}
}

func TestWithoutAPlaceForTheRecordThereIsNoDeadMan(t *testing.T) {
	w := newWatch(t, onTrial, true, func(*watch, int) {})
	w.Loader, w.Order.Record = nil, None
	if err := w.Run(t.Context()); !errors.Is(err, context.Canceled) || w.dog.released != 1 || len(w.said) != 1 {
		t.Fatalf("a trial that may be committed was ended: %v, said %q", err, w.said)
	}
}

func TestADamagedRootIsLeftOnlyForASlotThatCanBoot(t *testing.T) {
	damage := func(w *watch, second int) {
		w.Damaged = func() (bool, error) { return second >= 300, nil }
	}
	w := newWatch(t, committed, false, damage)
	if err := w.Run(t.Context()); !errors.Is(err, ErrLeave) || w.Uptime() != 300*time.Second {
		t.Fatalf("got %v after %s", err, w.Uptime())
	}
	if next, _ := w.loader.state.Next(); next != partitions.A {
		t.Errorf("record: got %+v", w.loader.state)
	}
	if w.kept.Load() != 1 || len(w.damage) != 0 {
		t.Errorf("the log was kept %d times, reported was %q", w.kept.Load(), w.damage)
	}
	w = newWatch(t, alone, false, damage)
	if err := w.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatalf("with no way out: got %v", err)
	}
	if w.loader.state != alone || !strings.Contains(strings.Join(w.said, "\n"), "staying up") || len(w.said) != 3 {
		t.Errorf("got %+v, said %q", w.loader.state, w.said)
	}
	if len(w.damage) != 1 || !strings.Contains(w.damage[0], "slot b") {
		t.Errorf("the system that stays up was told %q", w.damage)
	}
}

func TestADataPartitionThatHangsDoesNotHoldUpTheDeadMan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		w := newWatch(t, onTrial, true, func(*watch, int) {})
		w.Keep = func(context.Context) { <-hang }
		if err := w.Run(t.Context()); !errors.Is(err, ErrLeave) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestTheGuardWritesNothingInAQuietBoot(t *testing.T) {
	w := newWatch(t, committed, false, func(*watch, int) {})
	if err := w.Run(t.Context()); !errors.Is(err, context.Canceled) || w.loader.state != committed || len(w.said) != 0 || w.settled != 1 || w.kept.Load() != 0 {
		t.Errorf("got %v, %+v, said %q, settled %d times", err, w.loader.state, w.said, w.settled)
	}
}
