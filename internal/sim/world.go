package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twinkeel/twinkeel/agent"
)

// ErrInjected is the fault that a World injects; in the chain of the error that the
// agent gets.
var ErrInjected = errors.New("injected fault")

// Fate is what becomes of everything that was written but not flushed when the power
// goes.
type Fate int

// The fates.
const (
	Lost   Fate = iota // nothing of it arrived
	Kept               // all of it arrived
	Mixed              // any part of it in any order, sectors torn or garbage, by the seed
	Chosen             // the part that Subset says, each write of it whole
)

// String names the fate.
func (f Fate) String() string { return [...]string{"lost", "kept", "mixed", "chosen"}[f] }

// Profile is how far a file system may reorder what was not synced.
type Profile int

// The profiles.
const (
	Weak    Profile = iota // name operations before a directory sync survive in any subset
	Ordered                // name operations survive as a prefix
	Lying                  // as Weak, and one sync of a hundred does nothing
)

// End is how a run on the machine ended.
type End int

// The ends.
const (
	Returned End = iota // it came to its end
	Rebooted            // it asked for a reboot
	PowerCut            // the power went
	Killed              // the process was killed; the machine goes on in the same boot
)

// String names the end.
func (e End) String() string { return [...]string{"returned", "rebooted", "power cut", "killed"}[e] }

// ending is the value that unwinds the agent out of a run.
type ending struct{ end End }

// part is something whose content a crash changes.
type part interface {
	crash(Fate) // the power went
	unflushed() int
	releaseLock() // its holder is gone
}

// World is what lies outside the agent's process: time, faults and the account of
// effects. It is used from one goroutine.
type World struct {
	Fate    Fate    // of what is not flushed at a cut
	Subset  uint64  // with Chosen: a bit for each write that was not flushed, set if it arrives
	Profile Profile // of every directory
	Abrupt  bool    // a reboot flushes nothing, as one by a watchdog

	// Sector is how many bytes disks that are added write or not as one; 0: 64 for boot
	// records, so that a record is more than one, and 512 for slots.
	Sector int
	// Quiet keeps no trace: for the millions of histories that nobody reads.
	Quiet bool
	// Memory may be shared with other worlds.
	Memory *Memory

	now     time.Time     // on the machine's clock
	age     time.Duration // that has really passed
	rng     *rand.Rand
	effects int // changes to the world so far
	calls   int // calls of any kind so far
	cutAt   int // the effect before which the run ends; 0: none
	cutAs   End
	atCut   int // writes that were not flushed when the power went last
	failAt  int // the call that fails; 0: none
	failAs  error
	failed  bool   // a call failed in this run
	naps    int    // of a daemon that are left; 0: any number
	evening func() // ends the daemon
	running bool
	dead    bool // the run was ended; whatever still unwinds has no effect
	end     End  // of the run that was ended
	parts   []part
	trace   []string
	broken  []string
}

// NewWorld returns a world whose clock shows start.
func NewWorld(seed uint64, start time.Time) *World {
	return &World{now: start, rng: rand.New(rand.NewPCG(seed, 0x7477696e6b65656c))}
}

// CutAt ends a run before the n-th effect from now, counted from 1, as a power cut or
// as a kill. It holds until it has happened once.
func (w *World) CutAt(n int, as End) { w.cutAt, w.cutAs = w.effects+n, as }

// FailAt makes the n-th call from now, counted from 1, return ErrInjected.
func (w *World) FailAt(n int) { w.FailAs(n, ErrInjected) }

// FailAs makes the n-th call from now, counted from 1, return an error with cause in its
// chain, such as ErrNoSpace.
func (w *World) FailAs(n int, cause error) { w.failAt, w.failAs = w.calls+n, cause }

// Calm takes back faults that have not happened yet.
func (w *World) Calm() { w.cutAt, w.failAt = 0, 0 }

// Pending reports whether a fault that was planned has not happened yet.
func (w *World) Pending() bool { return w.cutAt > 0 || w.failAt > 0 }

// Effects is the number of changes made to the world so far.
func (w *World) Effects() int { return w.effects }

// Calls is the number of calls made to the world so far; effects are calls, too.
func (w *World) Calls() int { return w.calls }

// Trace lists what was done, oldest first.
func (w *World) Trace() []string { return w.trace }

// Broken lists the laws that were broken so far.
func (w *World) Broken() []string { return w.broken }

// Break records that a law was broken.
func (w *World) Break(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// Run carries out f as a process on the machine and returns how it ended. A power cut
// is applied to all parts before Run returns; so is the flush of a reboot.
func (w *World) Run(f func()) (end End) {
	w.running, w.dead, w.failed = true, false, false
	defer func() {
		w.running, w.dead = false, false
		switch r := recover().(type) {
		case nil:
		case ending:
			end = r.end
		default:
			panic(r)
		}
		if end == PowerCut {
			w.atCut = w.unflushed()
		}
		for _, p := range w.parts {
			p.releaseLock()
			switch {
			case end == PowerCut, end == Rebooted && w.Abrupt:
				p.crash(w.Fate)
			case end == Rebooted: // a clean shutdown: all that is cached arrives
				p.crash(Kept)
			}
		}
	}()
	f()
	if w.dead {
		// Somebody on the way up recovered the panic. The world has stopped anyway.
		panic(ending{w.end})
	}
	return Returned
}

func (w *World) unflushed() (n int) {
	for _, p := range w.parts {
		n += p.unflushed()
	}
	return n
}

// AtCut is how many writes and changes of directories were not flushed when the power went
// last. With the Fate Chosen there are so many bits in Subset, oldest first in each part.
func (w *World) AtCut() int { return w.atCut }

// arrives takes the next bit of Subset.
func (w *World) arrives() bool {
	bit := w.Subset & 1
	w.Subset >>= 1
	return bit == 1
}

// Reboot is the agent's reboot function: it never returns.
func (w *World) Reboot(context.Context) error {
	if err := w.effect(op{verb: "reboot"}); err != nil {
		return err
	}
	w.dead, w.end = true, Rebooted
	panic(ending{Rebooted})
}

// goDown is the end of a boot without anybody's wish.
func (w *World) goDown() {
	w.dead, w.end = true, PowerCut
	panic(ending{PowerCut})
}

// op is one call of the world outside, put into words only for a trace or an error.
type op struct {
	verb, name, file string
	off              int64
	n                int // bytes; 0: the call has no range
}

// String says what is done.
func (o op) String() string {
	text := o.verb
	if o.name != "" {
		text += " " + o.name
	}
	if o.file != "" {
		text += "/" + o.file
	}
	if o.n > 0 {
		text += fmt.Sprintf(" %d+%d", o.off, o.n)
	}
	return text
}

// effect is one change to the world. It ends the run if this is where the power goes,
// and returns an error if this is the call that fails; only if it returns nil the
// change is to be made.
func (w *World) effect(o op) error {
	w.effects++
	if w.dead {
		panic(ending{w.end})
	}
	if w.running && w.cutAt == w.effects {
		if !w.Quiet {
			w.note("%s before %s", w.cutAs, o)
		}
		w.dead, w.end, w.cutAt = true, w.cutAs, 0
		panic(ending{w.end})
	}
	return w.call(o)
}

// call is one call of the world outside that changes nothing. A dead world answers
// nothing more, whatever of the process still unwinds.
func (w *World) call(o op) error {
	if w.dead {
		panic(ending{w.end})
	}
	w.calls++
	if !w.Quiet {
		w.note("%s", o)
	}
	if w.failAt == w.calls {
		w.failAt, w.failed = 0, true
		w.note("%s fails", o)
		return fmt.Errorf("%s: %w", o, w.failAs)
	}
	return nil
}

// maxTrace bounds the trace: the last steps are the ones that explain a failure.
const maxTrace = 4000

func (w *World) note(format string, args ...any) {
	if w.Quiet {
		return
	}
	if len(w.trace) >= maxTrace {
		w.trace = append(w.trace[:0], w.trace[maxTrace/2:]...)
	}
	w.trace = append(w.trace, fmt.Sprintf("%5d ", w.effects)+fmt.Sprintf(format, args...))
}

// sector is that of a boot record.
func (w *World) sector() int {
	if w.Sector > 0 {
		return w.Sector
	}
	return 64
}

// chance is true with probability 1/n.
func (w *World) chance(n int) bool { return w.rng.IntN(n) == 0 }

// scramble fills b with bytes that nobody wrote.
func (w *World) scramble(b []byte) {
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
}

// nap is how long a sleep has to be to be a daemon's between two rounds of work, and not
// one between two probes.
const nap = 20 * time.Second

// Daemon is a process that lives like twinkeeld, until it has slept n times between two
// rounds of work.
func (w *World) Daemon(n int) func(*agent.Agent) {
	return func(a *agent.Agent) {
		ctx, cancel := context.WithCancel(context.Background())
		defer func() { w.naps = 0; cancel() }()
		w.naps, w.evening = n, cancel
		_ = a.Run(ctx)
	}
}

// Clock is the world's time as the agent's clock. Sleep takes no time but the world's.
type Clock struct{ w *World }

// Clock returns the machine's clock.
func (w *World) Clock() Clock { return Clock{w} }

// Now implements agent.Clock. Each look takes a millisecond, so that waiting in a loop
// comes to an end.
func (c Clock) Now() time.Time {
	c.w.Pass(time.Millisecond)
	return c.w.now
}

// Sleep implements agent.Clock.
func (c Clock) Sleep(ctx context.Context, d time.Duration) error {
	if c.w.dead {
		panic(ending{c.w.end})
	}
	c.w.Pass(max(d, time.Millisecond))
	if c.w.naps > 0 && d >= nap {
		if c.w.naps--; c.w.naps == 0 {
			c.w.evening()
		}
	}
	return ctx.Err()
}

// Pass lets time pass.
func (w *World) Pass(d time.Duration) { w.now, w.age = w.now.Add(d), w.age+d }

// Age is how much time has really passed, whatever the clock says.
func (w *World) Age() time.Duration { return w.age }

// SetTime sets the clock, as a dead battery or a bad time server would; no time passes.
func (w *World) SetTime(t time.Time) { w.now = t }
