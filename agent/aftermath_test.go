package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// ask has a new agent answer a question.
func (h *history) ask(t *testing.T, verb agent.Verb) (r agent.Result) {
	t.Helper()
	var err error
	h.m.Process(func(a *agent.Agent) { r, err = a.Do(context.Background(), agent.Request{Verb: verb}, nil) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// words is a kernel's log for tests, with what it was asked for.
func (h *history) words(asked *[]string) {
	h.m.Options.KernelLog = func(slot partitions.Slot, root release.Digest, after time.Time) ([]string, time.Time) {
		*asked = append(*asked, fmt.Sprintf("%s %t %t", slot, root == h.new.Manifest.Images[0].Root, after.IsZero()))
		return []string{"kernel: test", "Oops"}, time.Time{}
	}
}

func TestTheGoodSlotShowsTheLogOfTheOneThatWasLeft(t *testing.T) {
	for _, name := range []string{"update whose health fails", "release whose agent never comes up"} {
		s := stories[slices.IndexFunc(stories, func(s story) bool { return s.name == name })]
		h, err := begin(s, 1)
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		h.words(&asked)
		if err := h.settle(); err != nil {
			t.Fatal(err)
		}
		list := h.ask(t, agent.VerbHistory).History
		last := list[len(list)-1]
		if last.Slot != "b" || strings.Join(last.Kernel, "|") != "kernel: test|Oops" {
			t.Errorf("%s: got %+v", name, last)
		}
		if slices.Contains(asked, "b true false") != true {
			t.Errorf("%s: asked for %q, want the root of slot b since the update began", name, asked)
		}
		if w := h.ask(t, agent.VerbWhy).Why; w.Left == nil || w.Left.Seq != last.Seq || len(w.Left.Kernel) != 2 {
			t.Errorf("%s: why: got %+v", name, w.Left)
		}
	}
}

func TestALostTrialIsToldBeforeItIsArmedAgain(t *testing.T) {
	s := stories[slices.IndexFunc(stories, func(s story) bool { return s.unlucky > 0 })]
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	h.words(&asked)
	for range 20 {
		h.m.Process(sim.Once)
		if h.m.Running() == h.w.first && len(asked) > 0 {
			break
		}
	}
	list := h.ask(t, agent.VerbHistory).History
	if last := list[len(list)-1]; last.Result != "trial-lost" || len(last.Kernel) != 2 || !strings.Contains(last.Text, "armed again at") {
		t.Errorf("got %+v", last)
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	list = h.ask(t, agent.VerbHistory).History
	if last := list[len(list)-1]; h.m.Running() != h.new || last.Result != "committed" || last.Kernel != nil {
		t.Errorf("in the end: got %+v", last)
	}
	if w := h.ask(t, agent.VerbWhy).Why; w.Left != nil {
		t.Errorf("why, after a commit: got %+v", w.Left)
	}
}

// A panic of the trial is a verdict; one that is not known to be of this trial is none.
func TestOnlyAPanicOfThisTrialDeniesTheRelease(t *testing.T) {
	s := stories[slices.IndexFunc(stories, func(s story) bool { return s.behaviour == sim.Unbootable })]
	for name, c := range map[string]struct {
		panicked func(h *history) time.Time
		code     string
		arms     int
	}{
		"in the trial":                       {func(h *history) time.Time { return h.m.Panicked(partitions.B) }, agent.CodePanic, 1},
		"an hour before the trial":           {func(h *history) time.Time { return noon.Add(-time.Hour) }, agent.CodeTrialLost, 4},
		"known when armed, the clock behind": {func(h *history) time.Time { return noon.AddDate(1, 0, 0) }, agent.CodeTrialLost, 4},
		"none":                               {func(h *history) time.Time { return time.Time{} }, agent.CodeTrialLost, 4},
	} {
		h, err := begin(s, 1)
		if err != nil {
			t.Fatal(err)
		}
		trials := 0
		h.m.KeepsPanic = func() bool {
			trials++
			return c.code == agent.CodePanic
		}
		h.m.Options.KernelLog = func(slot partitions.Slot, root release.Digest, after time.Time) ([]string, time.Time) {
			at := c.panicked(h)
			if slot != partitions.B || root != h.new.Manifest.Images[0].Root || at.Before(after) {
				return nil, time.Time{}
			}
			return []string{"kernel: test", "Kernel panic - not syncing"}, at
		}
		if err := h.settle(); err != nil {
			t.Fatal(err)
		}
		if got := h.deniedCode(h.new); got != c.code || trials != 3*c.arms {
			t.Errorf("%s: got denial %q after %d boots, want %q after %d", name, got, trials, c.code, 3*c.arms)
		}
		list := h.ask(t, agent.VerbHistory).History
		last := list[len(list)-1]
		if c.code == agent.CodePanic && (last.Result != "rolled-back" || last.Code != c.code || len(last.Kernel) != 2 || last.Text != "the kernel of slot b panicked in its trial") {
			t.Errorf("%s: history: got %+v", name, last)
		}
	}
}

func TestADamagedRootWithoutAWayOutHasTheOtherSlotWrittenFirst(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.Net.Serve(h.w.files1) // nothing newer is offered than what runs
	h.m.Disk(partitions.A, "root").Rot(8192)
	// Outside of its window the host would wait for a day.
	if h.m.Options.Windows, err = policy.ParseWindows([]string{"01:00-01:01"}); err != nil {
		t.Fatal(err)
	}
	h.m.Process(sim.Once)
	if h.phase() != agent.Idle || h.m.Running() != h.w.first {
		t.Fatalf("without damage: phase %s", h.phase())
	}
	h.m.Options.Damage = func() string {
		if h.m.Running() == nil || h.m.Record().Slots[partitions.B].Successful {
			return ""
		}
		return "a block of slot a's root is not what was signed"
	}
	damaged := func(r agent.Reason) bool { return r.Code == agent.CodeSlot }
	if s := h.ask(t, agent.VerbStatus).Status; !slices.ContainsFunc(s.Reasons, damaged) {
		t.Errorf("status: got reasons %v", s.Reasons)
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.w.first || h.m.Standing() != partitions.B || h.m.Holds(partitions.B) != h.w.first {
		t.Errorf("runs %v, slot %s stands\n%s", h.m.Running(), h.m.Standing(), h.tail())
	}
	if broken := h.m.Broken(); len(broken) > 0 {
		t.Error(broken)
	}
}
