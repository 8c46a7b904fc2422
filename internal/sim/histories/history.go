package histories

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/twinkeel/twinkeel/internal/sim"
)

// Kind is what happens before the agent runs in a turn.
type Kind uint8

// The kinds.
const (
	Nothing    Kind = iota
	Publish         // the server goes on by one to three stages
	Jump            // the clock jumps
	RotSlot         // a bit of the idle slot turns
	RotRecord       // a bit of one copy of the boot record turns
	RotState        // a file of the state directory is spoilt
	FillDisk        // the state directory takes no more, in this turn
	LockDisk        // the state directory is read-only, in this turn
	Rollback        // the operator goes back
	Hold            // the operator holds updates
	Unhold          // the operator takes that back
	Undeny          // the operator allows what was denied
	UpdateNow       // the operator does not wait
	Verify          // the operator has the slots read
	TrustReset      // the operator starts trust anew
	OfApp           // the operator updates, holds, restarts an application, or goes back
	kinds
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"nothing", "publish", "clock jumps", "slot rots", "boot record rots", "state rots", "disk full", "disk read-only",
		"rollback", "hold", "unhold", "undeny", "update now", "verify", "trust reset", "of an app"}[k]
}

// Turn is one piece of a history: something happens, and then the agent runs.
type Turn struct {
	Kind   Kind
	Arg    uint64   // chooses the details of Kind and of the network's faults
	Naps   int      // how often the daemon sleeps before the turn ends; 0: --once
	Cut    int      // before this effect of the turn the agent ends; 0: it does not
	As     sim.End  // PowerCut or Killed
	Fate   sim.Fate // of what was not flushed
	Fail   int      // this call of the turn fails; 0: none
	Space  bool     // it fails for want of space
	Net    int      // of 16 requests this many go wrong
	Abrupt bool     // a reboot flushes nothing
	Leave  sim.End  // how the boot ends after the turn; Returned: it goes on
	Wait   float64  // hours until the next turn
	Doomed bool     // the first start of the turn ends in a power cut
}

// String describes the turn in a line.
func (t Turn) String() string {
	s := t.Kind.String()
	if t.Kind != Nothing {
		s += fmt.Sprintf(" (%x)", t.Arg&0xffff)
	}
	if t.Doomed {
		s += ", power cut while it starts"
	}
	if t.Cut > 0 {
		s += fmt.Sprintf(", %s before effect %d, %s", t.As, t.Cut, t.Fate)
	}
	if t.Fail > 0 {
		s += fmt.Sprintf(", call %d fails", t.Fail)
	}
	if t.Net > 0 {
		s += fmt.Sprintf(", %d/16 of the network bad", t.Net)
	}
	return s + fmt.Sprintf(", %d naps, then %s", t.Naps, t.Leave)
}

// History is what happens to one machine.
type History struct {
	Seed       uint64
	Repository int
	Grub       bool // the loader is GRUB's environment, not the simulated one
	Profile    sim.Profile
	Sector     int // bytes
	Turns      []Turn
	// Pardon lets the operator undeny everything in the end.
	Pardon bool
}

// withApps is of how many seeds one has applications, if its disks do not lie: such a history
// takes longer.
const withApps = 5

// What a random history has at least.
const (
	MinBoots    = 40
	MinCuts     = 5
	MinReleases = 3
	maxTurns    = 150
)

// New begins the history of a seed. Its turns are drawn one by one, while it is lived.
func New(seed uint64) (*History, *rand.Rand) {
	rng := rand.New(rand.NewPCG(seed, 0x68697374))
	h := &History{Seed: seed, Repository: rng.IntN(bare), Grub: rng.IntN(3) == 0, Pardon: rng.IntN(2) == 0, Sector: 512}
	if rng.IntN(2) == 0 {
		h.Sector = 64
	}
	switch rng.IntN(10) {
	case 0:
		h.Profile = sim.Lying
	case 1, 2, 3:
		h.Profile = sim.Ordered
	}
	if seed%withApps == 3 && h.Profile != sim.Lying {
		h.Repository = bare + h.Repository%(repositories-bare)
	}
	return h, rng
}

// weights say how often a kind is drawn, of their sum.
var weights = [kinds]int{Nothing: 40, Publish: 26, Jump: 3, RotSlot: 6, RotRecord: 3, RotState: 4, FillDisk: 3, LockDisk: 2,
	Rollback: 4, Hold: 2, Unhold: 4, Undeny: 3, UpdateNow: 3, Verify: 1, TrustReset: 1, OfApp: 10}

// seconds are what a fault meets that the one before has left something behind for.
var seconds = [...]Kind{RotState, RotState, RotState, Rollback, Hold}

// draw returns the next turn of a history, with applications or without; cut says that the
// agent did not come to the end of the last one. Two faults that meet find more than many
// which do not.
func draw(rng *rand.Rand, apps, cut bool) Turn {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	if !apps {
		sum -= weights[OfApp]
	}
	t := Turn{Arg: rng.Uint64(), Naps: rng.IntN(4), Wait: math.Exp(4*rng.Float64() - 2)}
	n := rng.IntN(sum)
	for n >= weights[t.Kind] {
		n -= weights[t.Kind]
		t.Kind++
	}
	if cut && rng.IntN(4) == 0 {
		t.Kind = seconds[rng.IntN(len(seconds))]
	}
	if rng.IntN(5) < 2 {
		// Most of what a boot does is done in its first dozens of effects.
		t.Cut = int(math.Exp(5 * rng.Float64()))
		if t.As = sim.PowerCut; rng.IntN(4) == 0 {
			t.As = sim.Killed
		}
	}
	t.Fate = sim.Fate(rng.IntN(4))
	t.Fate = min(t.Fate, sim.Mixed)
	if rng.IntN(8) == 0 {
		t.Fail, t.Space = int(math.Exp(6*rng.Float64())), rng.IntN(3) == 0
	}
	if rng.IntN(4) == 0 {
		t.Net = 1 + rng.IntN(6)
	}
	t.Abrupt = rng.IntN(4) == 0
	t.Doomed = rng.IntN(12) == 0
	switch rng.IntN(8) {
	case 0:
		t.Leave = sim.PowerCut
	case 1, 2, 3, 4, 5:
		t.Leave = sim.Rebooted
	}
	return t
}
