package histories

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Counts sums up what was lived through.
type Counts struct {
	Histories, Boots, Starts, Cuts, Kills, Releases, Effects, Calls int
}

// Add adds c to the sum.
func (s *Counts) Add(c Counts) {
	s.Histories += c.Histories
	s.Boots += c.Boots
	s.Starts += c.Starts
	s.Cuts += c.Cuts
	s.Kills += c.Kills
	s.Releases += c.Releases
	s.Effects += c.Effects
	s.Calls += c.Calls
}

// Outcome is how a history ended.
type Outcome struct {
	History *History
	Counts  Counts
	Broken  []string // laws, in the order of their breach
	Trace   []string // if it was asked for
}

// life is a history that is being lived.
type life struct {
	h      *History
	repo   *Repository
	m      *sim.Machine
	stage  int
	counts Counts
	// offered and seen are the releases that the server wanted here and that came up.
	offered, seen map[*sim.Release]bool
	doomed        bool
	// restarts of the daemon in this boot, which is a trial.
	restarts int
	cut      bool // the agent did not come to the end of the last turn
}

// Live lives through the history of a seed.
func (s *Shelf) Live(seed uint64) (*Outcome, error) {
	h, rng := New(seed)
	return s.live(h, rng, false)
}

// Relive lives through a history that is known, turn by turn.
func (s *Shelf) Relive(h *History, trace bool) (*Outcome, error) { return s.live(h, nil, trace) }

func (s *Shelf) live(h *History, rng *rand.Rand, trace bool) (*Outcome, error) {
	repo, err := s.Get(h.Repository)
	if err != nil {
		return nil, err
	}
	l, err := s.begin(h, repo, !trace)
	if err != nil {
		return nil, err
	}
	defer l.m.End()
	out := &Outcome{History: h}
	if rng == nil {
		for _, t := range h.Turns {
			if l.turn(t); len(l.broken()) > 0 {
				break
			}
		}
	} else {
		for len(h.Turns) < maxTurns && !l.enough() && len(l.broken()) == 0 {
			t := draw(rng, len(repo.Apps) > 0, l.cut)
			h.Turns = append(h.Turns, t)
			l.turn(t)
		}
	}
	if len(l.broken()) == 0 {
		l.end()
	}
	l.counts.Histories, l.counts.Boots, l.counts.Starts = 1, l.m.Boots, l.m.Starts
	l.counts.Effects, l.counts.Calls, l.counts.Releases = l.m.Effects(), l.m.Calls(), len(l.offered)
	out.Counts, out.Broken, out.Trace = l.counts, l.broken(), l.m.Trace()
	return out, nil
}

// begin makes the machine; it is delivered with release 1.
func (s *Shelf) begin(h *History, repo *Repository, quiet bool) (*life, error) {
	w := sim.NewWorld(h.Seed, noon())
	w.Quiet, w.Profile, w.Sector, w.Memory = quiet, h.Profile, h.Sector, &s.memory
	open := sim.OpenLoader(sim.Simulated)
	if h.Grub {
		open = sim.Grub
	}
	m, err := sim.NewMachineIn(w, repo.Size, repo.Root, repo.Factory, open)
	if err != nil {
		return nil, err
	}
	m.Releases, m.MetadataVersions = repo.Releases, repo.versions
	m.Options.Verdicts, m.Options.Records = &s.verdicts[h.Repository%repositories], &s.records[h.Repository%repositories]
	m.Options.Hashes, m.Net.Plans, m.Net.Searched = &s.hashes, &s.plans, &s.searched
	repo.want(m)
	l := &life{h: h, repo: repo, m: m, offered: map[*sim.Release]bool{repo.Factory: true}, seen: map[*sim.Release]bool{}}
	m.Net.Serve(repo.Stages[0].Files)
	m.Interrupt = func(*sim.Release, bool) bool {
		doomed := l.doomed
		if l.doomed = false; doomed {
			l.counts.Cuts++
		}
		return doomed
	}
	m.Entered = func(r *sim.Release) {
		l.seen[r] = true
		m.Options.StateFormat = repo.Formats[r]
	}
	keeps := uint64(0)
	m.KeepsPanic = func() bool {
		keeps++
		return mix(h.Seed+keeps)%2 == 0
	}
	w.Fate = sim.Kept
	w.Profile = sim.Weak
	m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: repo.Manifest}, nil)
	})
	w.Profile = h.Profile
	return l, err
}

func (l *life) enough() bool {
	return l.m.Starts >= MinBoots && l.counts.Cuts >= MinCuts && len(l.offered) >= MinReleases
}

// lied are the laws that hold although flushes were lied about.
var lied = []string{"law 1:", "law 2:", "law 3:", "law 5:", "law 10:", "law 12:", "law 15:"}

// broken returns the laws that were broken and that count.
func (l *life) broken() []string {
	b := l.m.Broken()
	if l.h.Profile != sim.Lying {
		return b
	}
	var count []string
	for _, text := range b {
		if slices.ContainsFunc(lied, func(law string) bool { return strings.HasPrefix(text, law) }) {
			count = append(count, text)
		}
	}
	return count
}

// turn lives through one turn.
func (l *life) turn(t Turn) {
	m := l.m
	l.doomed = t.Doomed
	m.Fate, m.Abrupt = t.Fate, t.Abrupt
	request := l.prepare(t)
	m.Net.Fault = nil
	if t.Net > 0 {
		m.Net.Fault = func(n int, _ string) sim.NetFault {
			if x := mix(t.Arg + uint64(n)); int(x%16) < t.Net {
				all := sim.NetFaults()
				return all[(x>>8)%uint64(len(all))]
			}
			return sim.NoFault
		}
	}
	if t.Cut > 0 {
		m.CutAt(t.Cut, t.As)
	}
	if t.Fail > 0 {
		cause := sim.ErrInjected
		if t.Space {
			cause = sim.ErrNoSpace
		}
		m.FailAs(t.Fail, cause)
	}
	end := m.Process(func(a *agent.Agent) {
		if request != nil {
			l.operate(a, *request)
		}
		if t.Naps == 0 {
			sim.Once(a)
		} else {
			m.Daemon(t.Naps)(a)
		}
	})
	l.cut = end == sim.PowerCut || end == sim.Killed
	switch end {
	case sim.PowerCut:
		l.counts.Cuts++
	case sim.Killed:
		l.counts.Kills++
	}
	m.Calm()
	m.State.Full, m.State.ReadOnly = false, false
	if t.Leave != sim.Returned && end != sim.PowerCut {
		if m.Restart(t.Leave); t.Leave == sim.PowerCut {
			l.counts.Cuts++
		}
	}
	switch {
	case !m.OnTrial():
		l.restarts = 0
		m.Pass(time.Duration(t.Wait * float64(time.Hour)))
	case l.restarts == 4:
		// A daemon that comes up again and again for as long as the deadline is no
		// evidence of health.
		l.restarts = 0
		m.Restart(sim.Rebooted)
	default:
		// The service manager starts a daemon again that has ended.
		l.restarts++
		m.Pass(time.Second)
	}
}

// operate is what an operator does; whatever comes of it is the agent's business.
func (l *life) operate(a *agent.Agent, r agent.Request) {
	m := l.m
	switch r.Verb {
	case agent.VerbRollback:
		m.LowerToOther()
	case agent.VerbTrustReset:
		m.Distrust()
	case agent.VerbUndeny:
		m.Allow()
		for _, d := range m.Denials() {
			r.Digest = d
			_, _ = a.Do(context.Background(), r, nil)
		}
		return
	}
	_, _ = a.Do(context.Background(), r, nil)
}

// prepare makes happen what the turn begins with, and returns what the operator asks for.
func (l *life) prepare(t Turn) *agent.Request {
	m := l.m
	switch t.Kind {
	case Publish:
		l.serve(min(l.stage+1+int(t.Arg%3), len(l.repo.Stages)-1))
	case Jump:
		years := [...]int{-56, -10, 0, 10}[t.Arg%4]
		m.SetTime(noon().Add(m.Age()).AddDate(years, 0, int(t.Arg>>8%60)))
	case RotSlot:
		m.Spoil(partitions.Slot(t.Arg%2), "root", int64((t.Arg>>8)%uint64(2*release.BlockSize)))
	case RotRecord:
		m.SpoilRecord(int(t.Arg%2), int(t.Arg>>8))
	case RotState:
		l.rotState(t.Arg)
	case FillDisk:
		m.State.Full = true
	case LockDisk:
		m.State.ReadOnly = true
	case Rollback:
		return &agent.Request{Verb: agent.VerbRollback, Force: t.Arg%2 == 0, Reason: "test"}
	case Hold:
		return &agent.Request{Verb: agent.VerbHold, Until: m.Clock().Now().Add(time.Duration(t.Arg%72) * time.Hour)}
	case Unhold:
		return &agent.Request{Verb: agent.VerbUnhold}
	case Undeny:
		return &agent.Request{Verb: agent.VerbUndeny}
	case UpdateNow:
		return &agent.Request{Verb: agent.VerbUpdate, Now: true, NoReboot: t.Arg%4 == 0}
	case Verify:
		return &agent.Request{Verb: agent.VerbVerify}
	case TrustReset:
		return &agent.Request{Verb: agent.VerbTrustReset}
	case OfApp:
		return l.ofApp(t.Arg)
	}
	return nil
}

// serve goes on to a stage.
func (l *life) serve(stage int) {
	l.stage = stage
	s := l.repo.Stages[stage]
	l.offered[s.Wants] = true
	l.m.Net.Serve(s.Files)
	if s.Down {
		l.m.Lower(s.Wants.Manifest.Version)
	}
}

// end lets all faults stop and looks where the machine arrives.
func (l *life) end() {
	m := l.m
	m.Net.Fault, m.Abrupt, m.Fate, m.Profile = nil, false, sim.Kept, sim.Weak
	m.SetTime(noon().Add(m.Age()))
	last := len(l.repo.Stages) - 1
	l.serve(last)
	m.Process(func(a *agent.Agent) {
		l.operate(a, agent.Request{Verb: agent.VerbUnhold})
		l.freeApps(a)
		if l.h.Pardon {
			l.operate(a, agent.Request{Verb: agent.VerbUndeny})
		}
		m.Daemon(1)(a)
	})
	for range 40 {
		before := m.Effects()
		if m.Journal().NoReboot {
			m.Restart(sim.Rebooted) // the operator who wanted to do that does it
		}
		end := m.Process(m.Daemon(2))
		m.Pass(26 * time.Hour)
		if end != sim.Returned || m.Effects() != before || m.Journal().Phase != agent.Idle {
			continue
		}
		// A daemon that cannot start an application naps often between two polls.
		if m.Options.Apps == nil || m.Process(sim.Once) == sim.Returned && m.Effects() == before {
			break
		}
	}
	want := l.repo.Stages[last].Wants
	_, denied := m.Denied(want)
	switch {
	case m.Running() == nil:
		m.Break("law 1: nothing runs in the end")
	case want.Behaviour != sim.Healthy && !denied:
		m.Break("law 8: %s is neither denied nor left", want)
	case !denied:
		m.Converges(want)
	case m.Running().Behaviour != sim.Healthy:
		m.Break("law 13: %s runs in the end", m.Running())
	}
	l.endOfApps()
	m.Idempotent()
	m.QuietWhenIdle()
	if l.h.Profile != sim.Lying {
		m.Tidy()
	}
	m.SecretsStay()
}

// Flap lives through an update while the power fails after every n changes, and returns
// the laws that were broken.
func (s *Shelf) Flap(repository, n, boots int) ([]string, error) {
	repo, err := s.Get(repository)
	if err != nil {
		return nil, err
	}
	l, err := s.begin(&History{Seed: 1, Sector: 512}, repo, true)
	if err != nil {
		return nil, err
	}
	last := len(repo.Stages) - 1
	l.serve(last)
	l.m.Fate = sim.Mixed
	l.m.ProgressesWhileThePowerFlaps(n, boots, repo.Stages[last].Wants)
	return l.m.Broken(), nil
}

// mix scatters x over all of its values.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Report describes a history that failed, for people.
func (o *Outcome) Report() string {
	var b strings.Builder
	h := o.History
	fmt.Fprintf(&b, "seed %d: %s\nrepository %d, grub %t, profile %d, sectors of %d bytes, %d turns:\n", h.Seed, strings.Join(o.Broken, "; "), h.Repository, h.Grub, h.Profile, h.Sector, len(h.Turns))
	for i, t := range h.Turns {
		fmt.Fprintf(&b, "%4d %s\n", i+1, t)
	}
	return b.String()
}
