package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/signing"
)

// A crash test runs one history of a machine, of which the real agent, the real boot
// loader backend and the real decoder are parts, again and again: with a power cut
// before the first effect on the world, before the second, and so on, with a kill of the
// agent there, and with each call of the world failing. After the fault the machine runs
// on without any, and has to arrive where it should.

// story is one history.
type story struct {
	name string
	// behaviour of release 2, which is published while the machine runs release 1.
	behaviour sim.Behaviour
	// big images have more than one segment.
	big bool
	// unlucky is the number of trial boots in which the power fails before the agent runs.
	unlucky int
	// mirror spoils the first payload, so that the slot has to be repaired.
	mirror bool
	// rollback lets the update happen without faults; the operator then goes back.
	rollback bool
	// pstore keeps what a kernel saves in its panic.
	pstore bool
	// skew has release 2 bring an agent that writes a newer format of the state.
	skew   bool
	want   string // version that runs in the end
	denied string // version that is denied in the end, or ""
	code   string // of the denial
}

var stories = []story{
	{name: "update that commits", behaviour: sim.Healthy, big: true, want: "2"},
	{name: "update over a bad mirror", behaviour: sim.Healthy, big: true, mirror: true, want: "2"},
	{name: "update whose health fails", behaviour: sim.Unhealthy, want: "1", denied: "2", code: agent.CodeUnhealthy},
	{name: "update that fails while it soaks", behaviour: sim.Flapping, want: "1", denied: "2", code: agent.CodeUnhealthy},
	{name: "manual rollback", behaviour: sim.Healthy, rollback: true, want: "1", denied: "2", code: agent.CodeByHand},
	{name: "release that resets the machine", behaviour: sim.Unbootable, want: "1", denied: "2", code: agent.CodeTrialLost},
	{name: "release that panics, which is kept", behaviour: sim.Unbootable, pstore: true, want: "1", denied: "2", code: agent.CodePanic},
	{name: "release that the loader cannot load", behaviour: sim.Unloadable, want: "1", denied: "2", code: agent.CodeUnbootable},
	{name: "release whose agent never comes up", behaviour: sim.Mute, want: "1", denied: "2", code: agent.CodeTrialLost},
	{name: "trial lost to power cuts", behaviour: sim.Healthy, unlucky: 3, want: "2"},
}

// fault is what goes wrong in a history, once.
type fault struct {
	kind   string // "cut", "kill", "error" or "no space"
	n      int    // before this effect, counted from the update's first poll; or this call
	fate   sim.Fate
	seed   uint64
	subset uint64 // with the fate chosen
	abrupt bool   // reboots flush nothing
	second int    // the power goes again, before this effect after the first cut; 0: it does not
}

func (f fault) String() string {
	return fmt.Sprintf("%s %d, fate %s, subset %b, seed %d, abrupt %t, second %d", f.kind, f.n, f.fate, f.subset, f.seed, f.abrupt, f.second)
}

// plans are the faults of which every n is played in every story.
var plans = []fault{
	{kind: "cut", fate: sim.Lost},
	{kind: "cut", fate: sim.Kept},
	{kind: "cut", fate: sim.Mixed, seed: 1},
	{kind: "cut", fate: sim.Mixed, seed: 2, abrupt: true},
	{kind: "kill", fate: sim.Lost, abrupt: true},
	{kind: "error", fate: sim.Lost},
	{kind: "no space", fate: sim.Kept},
}

// world is what all histories share.
type world struct {
	root   []byte
	first  *sim.Release
	files1 map[string][]byte
	second map[sim.Behaviour]*sim.Release
	files2 map[sim.Behaviour]map[string][]byte
	size   int64
	// What is worked out of metadata, images and payloads is the same in every history.
	verdicts signing.Verdicts
	records  agent.Records
	hashes   verity.Hashes
	plans    sim.Plans
	memory   sim.Memory
}

var (
	noon       = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	smallWorld = sync.OnceValue(func() *world { return newWorld(24 << 12) })
	bigWorld   = sync.OnceValue(func() *world { return newWorld(530 << 10 &^ 4095) })
)

// newWorld publishes release 1 and, once for each behaviour, release 2.
func newWorld(size int) *world {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	w := &world{second: map[sim.Behaviour]*sim.Release{}, files2: map[sim.Behaviour]map[string][]byte{}, size: int64(size) + 64<<10}
	image := sim.Image(size, 1)
	for b := sim.Healthy; b <= sim.Mute; b++ {
		dir, err := os.MkdirTemp("", "keys")
		must(err)
		p, err := sim.NewPublisher(dir, noon.AddDate(1, 0, 0))
		must(err)
		must(os.RemoveAll(dir))
		first, err := p.Release(sim.Spec{Version: "1", Images: map[string][]byte{"root": image}})
		must(err)
		must(p.Direct(first, nil))
		w.root, w.first, w.files1 = p.Root(), first, p.Files()
		second, err := p.Release(sim.Spec{Version: "2", Images: map[string][]byte{"root": sim.Edit(image, 2)}, From: []*sim.Release{first}, Behaviour: b})
		must(err)
		must(p.Direct(second, nil))
		w.second[b], w.files2[b] = second, p.Files()
	}
	return w
}

// history is one run of a story.
type history struct {
	story
	w           *world
	m           *sim.Machine
	new         *sim.Release
	states      map[string]bool
	goBack      bool // the operator wants the other slot
	unflushed   int  // writes at the first cut; -1: there was none
	second      int  // the power goes once more, before this effect after a cut
	lost        int  // trial boots in which the power failed
	afterDenial int  // trial boots of a release that was denied
}

// begin makes the machine, without faults, up to the point where the story starts.
func begin(s story, seed uint64) (*history, error) { return beginIn(s, seed, false) }

// beginIn is begin; a quiet history has no trace.
func beginIn(s story, seed uint64, quiet bool) (*history, error) {
	w := smallWorld()
	if s.big {
		w = bigWorld()
	}
	h := &history{story: s, w: w, new: w.second[s.behaviour], states: map[string]bool{}}
	in := sim.NewWorld(seed, noon)
	in.Quiet, in.Memory = quiet, &w.memory
	m, err := sim.NewMachineIn(in, w.size, w.root, w.first, sim.Simulated)
	if err != nil {
		return nil, err
	}
	h.m = m
	m.Options.Verdicts, m.Options.Records, m.Options.Hashes, m.Net.Plans = &w.verdicts, &w.records, &w.hashes, &w.plans
	if s.skew {
		m.Entered = func(r *sim.Release) {
			m.Options.StateFormat = 1
			if r == h.new {
				m.Options.StateFormat = 2
			}
		}
	}
	m.KeepsPanic = func() bool { return s.pstore }
	m.Net.Serve(w.files1)
	m.Releases = append(m.Releases, h.new)
	manifest, err := w.first.Manifest.Encode()
	if err != nil {
		return nil, err
	}
	m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil)
		if err == nil {
			err = a.Once(context.Background())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	m.Net.Serve(w.files2[s.behaviour])
	if s.rollback {
		if err := h.settle(); err != nil {
			return nil, err
		}
		if got := m.Running(); got != h.new {
			return nil, fmt.Errorf("the update before the rollback did not happen:\n%s", h.tail())
		}
		h.goBack = true
	}
	if s.mirror {
		blobs := 0
		m.Net.Fault = func(_ int, path string) sim.NetFault {
			if strings.HasPrefix(path, "blobs/") {
				blobs++
			}
			if blobs == 2 { // the head comes first
				return sim.Flip
			}
			return sim.NoFault
		}
	}
	m.Interrupt = func(r *sim.Release, trial bool) bool {
		if trial && h.deniedCode(r) != "" {
			h.afterDenial++
		}
		if trial && r == h.new && h.lost < s.unlucky {
			h.lost++
			return true
		}
		return false
	}
	return h, nil
}

// round is one thing that the agent does: the operator goes back until that is done, and
// otherwise the agent resumes or polls.
func (h *history) round(a *agent.Agent) error {
	if h.goBack && h.m.Running() == h.new && h.deniedCode(h.new) == "" {
		_, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback}, nil)
		return err
	}
	return a.Once(context.Background())
}

// settle runs the machine, boot after boot, until it rests: a round without error and
// without any effect, and with nothing under way. The agent of a boot lives as long as a daemon does.
func (h *history) settle() error {
	rounds := 0
	for range 100 {
		end := h.m.Process(func(a *agent.Agent) {
			for ; rounds < 200; rounds++ {
				before := h.m.Effects()
				err := h.round(a)
				h.m.SetTime(h.m.Clock().Now().Add(h.nap()))
				if err == nil && h.m.Effects() == before && h.phase() == agent.Idle {
					return
				}
			}
		})
		h.states[h.key()] = true
		if end == sim.PowerCut && h.unflushed < 0 {
			h.unflushed = h.m.AtCut()
		}
		if end == sim.PowerCut && h.second > 0 {
			h.m.CutAt(h.second, sim.PowerCut)
			h.second = 0
		}
		if end == sim.Returned && rounds < 200 || len(h.m.Broken()) > 0 {
			return nil
		}
	}
	return errors.New("the history does not come to an end")
}

// nap is how long the daemon waits at least before it looks again, or longer where
// nothing but a poll is due.
func (h *history) nap() time.Duration {
	switch h.phase() {
	case agent.Armed, agent.Reverting:
		return time.Minute
	}
	return 7 * time.Hour
}

// key names the state that the machine is in, without times and numbers.
func (h *history) key() string {
	var t agent.Transaction
	h.state("journal.json", &t)
	var pointers [2]agent.Pointer
	h.state("slot-a.json", &pointers[0])
	h.state("slot-b.json", &pointers[1])
	return fmt.Sprintf("%s %s %s verified %t armed %t arms %d retry %t verdict %t|%+v|%+v|%v %v|denied %s|checkpoint %t",
		t.Phase, t.Kind, t.Slot, t.VerifiedIn != "", t.ArmedIn != "", t.Arms, !t.RetryAt.IsZero(), t.Verdict != nil,
		h.m.Record(), pointers, h.m.Holds(partitions.A), h.m.Holds(partitions.B), h.deniedCode(h.new), h.m.State.Bytes("checkpoint.json") != nil)
}

// state reads a record of the state directory, without the world noticing.
func (h *history) state(name string, v any) {
	var e struct {
		Body json.RawMessage `json:"body"`
	}
	if json.Unmarshal(h.m.State.Bytes(name), &e) == nil {
		_ = json.Unmarshal(e.Body, v)
	}
}

func (h *history) phase() agent.Phase {
	t := agent.Transaction{Phase: agent.Idle}
	h.state("journal.json", &t)
	return t.Phase
}

// deniedCode returns why a release is denied, or "".
func (h *history) deniedCode(r *sim.Release) string {
	var d struct {
		Denials []agent.Denial `json:"denials"`
	}
	h.state("denials.json", &d)
	for _, d := range d.Denials {
		if d.Deployment == r.Manifest.Deployment() {
			return d.Code
		}
	}
	return ""
}

// check compares where the history ended with where it should.
func (h *history) check() (wrong []string) {
	wrong = append(wrong, h.m.Broken()...)
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	running := h.m.Running()
	if running == nil {
		say("nothing runs")
		return wrong
	}
	if got := running.Manifest.Version.String(); got != h.want {
		say("law 13: got release %s in the end, want %s", got, h.want)
	}
	if h.afterDenial > 0 {
		say("law 8: a denied release was tried again %d times", h.afterDenial)
	}
	code := h.deniedCode(h.new)
	if (h.denied == "2") != (code != "") || code != h.code {
		say("denial of release 2: got code %q, want %q", code, h.code)
	}
	if got := h.m.Holds(h.m.Standing()); got != running {
		say("law 1: the slot that boots next does not hold what runs")
	}
	if other := h.m.Holds(h.m.Standing().Other()); running == h.new && other != h.w.first {
		say("law 3: the fallback slot does not hold release 1 any more")
	}
	return wrong
}

func (h *history) tail() string {
	t := h.m.Trace()
	return strings.Join(t[max(0, len(t)-60):], "\n")
}

// play runs a story with one fault. It reports whether the fault happened, and what was
// wrong in the end. Only a history in which something was wrong has a trace.
func play(s story, f fault) (h *history, happened bool, wrong []string, err error) {
	h, happened, wrong, err = playIn(s, f, true)
	if err == nil && len(wrong) > 0 {
		h, happened, wrong, err = playIn(s, f, false)
	}
	return h, happened, wrong, err
}

func playIn(s story, f fault, quiet bool) (h *history, happened bool, wrong []string, err error) {
	h, err = beginIn(s, f.seed, quiet)
	if err != nil {
		return h, false, nil, err
	}
	defer h.m.End()
	h.m.Fate, h.m.Subset, h.m.Abrupt = f.fate, f.subset, f.abrupt
	h.second, h.unflushed = f.second, -1
	switch f.kind {
	case "cut":
		h.m.CutAt(f.n, sim.PowerCut)
	case "kill":
		h.m.CutAt(f.n, sim.Killed)
	case "error":
		// A write that fails has written its beginning; after a flush that fails nobody
		// knows what arrived, and the next one proves nothing.
		h.m.FailAt(f.n)
	case "no space":
		h.m.FailAs(f.n, sim.ErrNoSpace)
	}
	if err := h.settle(); err != nil {
		return h, true, []string{"law 15: " + err.Error()}, nil
	}
	return h, !h.m.Pending(), h.check(), nil
}

func TestEveryFaultInEveryStoryEndsWell(t *testing.T) {
	before := debug.SetGCPercent(400) // histories are short and leave nothing behind
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for _, s := range stories {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			h, _, wrong, err := play(s, fault{kind: "none"})
			if err != nil {
				t.Fatal(err)
			}
			if len(wrong) > 0 {
				t.Fatalf("without a fault: %v\n%s", wrong, h.tail())
			}
			histories, failed, states := 0, 0, h.states
			for _, f := range plans {
				for f.n = 1; ; f.n += stride(1) {
					h, happened, wrong, err := play(s, f)
					if err != nil {
						t.Fatalf("%s: %v", f, err)
					}
					if !happened {
						break
					}
					histories++
					maps.Copy(states, h.states)
					if len(wrong) > 0 {
						if failed++; failed > 5 {
							t.Fatal("and more")
						}
						tail := ""
						if failed == 1 {
							tail = "\n" + h.tail()
						}
						t.Errorf("%s: %s%s", f, strings.Join(wrong, "; "), tail)
					}
				}
			}
			t.Logf("%d histories, each with one fault; %d states between two processes", histories, len(states))
		})
	}
}

func TestARefusalForBeingBusySaysWithWhat(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.Process(func(a *agent.Agent) {
		var refused error
		_, err := a.Do(t.Context(), agent.Request{Verb: agent.VerbUpdate}, func(agent.Event) {
			if refused == nil {
				_, refused = a.Do(t.Context(), agent.Request{Verb: agent.VerbCheck}, nil)
			}
		})
		if agent.CodeOf(refused) != agent.CodeBusy || !strings.Contains(refused.Error(), "another update has been under way for ") {
			t.Errorf("a check during an update (which ended with %v): got %v", err, refused)
		}
	})
}

func TestTwoAgentsAtOnceRefuse(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.Process(func(first *agent.Agent) {
		if err := first.Own(); err != nil {
			t.Fatal(err)
		}
		second, err := agent.New(h.m.Options)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err = second.Run(ctx)
		if agent.CodeOf(err) != agent.CodeBusy || !errors.Is(err, durable.ErrLocked) {
			t.Errorf("second Run: got %v, want %s", err, agent.CodeBusy)
		}
		before := h.m.Effects()
		if err := second.Once(context.Background()); agent.CodeOf(err) != agent.CodeBusy {
			t.Errorf("second Once: got %v, want %s", err, agent.CodeBusy)
		}
		if _, err := second.Do(context.Background(), agent.Request{Verb: agent.VerbUpdate}, nil); agent.CodeOf(err) != agent.CodeBusy {
			t.Errorf("second update: got %v, want %s", err, agent.CodeBusy)
		}
		if h.m.Effects() != before {
			t.Error("an agent that was refused changed something")
		}
	})
	if r := h.m.Holds(partitions.B); r != nil {
		t.Errorf("slot b holds %s, want nothing", r.Manifest.Version)
	}
}
