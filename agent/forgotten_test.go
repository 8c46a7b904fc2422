package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
)

// Each test of this file is a defect that a long campaign of random histories found: state
// that one fault had made old or unreadable was taken for the truth by the next step.

// killedEverywhere kills the agent before the first effect of a story, before the second,
// and so on, and hands each machine to then, which says whether it was one that matters.
func killedEverywhere(t *testing.T, s story, then func(*history) bool) {
	t.Helper()
	matter := 0
	for n := 1; ; n++ {
		h, killed := killedBefore(t, s, n)
		if !killed {
			break
		}
		if then(h) {
			matter++
		}
		if broken := h.m.Broken(); len(broken) > 0 {
			t.Fatalf("killed before effect %d: %s", n, broken[0])
		}
	}
	if matter == 0 {
		t.Error("no kill left the machine as this test wants it")
	}
}

// killedBefore kills the agent before the n-th effect of a story, and says whether there is one.
func killedBefore(t *testing.T, s story, n int) (h *history, killed bool) {
	t.Helper()
	h, err := beginIn(s, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	h.m.CutAt(n, sim.Killed)
	return h, h.untilKilled()
}

// untilKilled runs the machine until the agent is killed, and says whether that happened.
func (h *history) untilKilled() bool {
	for range 20 {
		end := h.m.Process(func(a *agent.Agent) {
			for range 20 {
				_ = h.round(a)
				h.m.SetTime(h.m.Clock().Now().Add(h.nap()))
			}
		})
		if end == sim.Killed {
			return true
		}
	}
	return false
}

// do carries out an operator's request.
func (h *history) do(r agent.Request) (end sim.End, err error) {
	end = h.m.Process(func(a *agent.Agent) { _, err = a.Do(context.Background(), r, nil) })
	return end, err
}

// committed says whether the loader takes a slot for proven.
func (h *history) committed(slot partitions.Slot) bool { return h.m.Record().Slots[slot].Successful }

func TestARollbackOfACommitThatWasInterruptedIsATransaction(t *testing.T) {
	killedEverywhere(t, stories[0], func(h *history) bool {
		j := h.m.Journal()
		if j.Phase != agent.Armed || h.m.Running() != h.new || !h.committed(j.Slot) {
			return false
		}
		end, err := h.do(agent.Request{Verb: agent.VerbRollback})
		if j := h.m.Journal(); err != nil || end != sim.Rebooted || j.Kind != agent.KindRollback {
			t.Errorf("got %v, %v, %s of kind %s; want a rollback that is read back, tried and judged", err, end, j.Phase, j.Kind)
		}
		return true
	})
}

func TestAHoldTakesBackWhatIsBeingArmed(t *testing.T) {
	killedEverywhere(t, stories[0], func(h *history) bool {
		j := h.m.Journal()
		if j.Phase != agent.Armed || h.m.Running() == h.new || h.m.Record().Slots[j.Slot].Priority > 0 {
			return false
		}
		if _, err := h.do(agent.Request{Verb: agent.VerbHold}); err != nil {
			t.Error(err)
		}
		h.m.Process(sim.Once)
		if got := h.m.Record().Slots[j.Slot]; got.Priority > 0 {
			t.Errorf("held, and yet it is armed: %+v", got)
		}
		if _, err := h.do(agent.Request{Verb: agent.VerbUnhold}); err != nil {
			t.Error(err)
		}
		if err := h.settle(); err != nil || h.m.Running() != h.new {
			t.Errorf("not held any more: %s runs, %v; want %s", h.m.Running(), err, h.new)
		}
		return true
	})
}

func TestGoingBackIsNotForgottenWithTheJournal(t *testing.T) {
	killedEverywhere(t, stories[2], func(h *history) bool {
		j := h.m.Journal()
		if j.Phase != agent.Reverting || h.m.Record().Denied.IsZero() {
			return false
		}
		h.m.State.Damage("journal.json", []byte("{"))
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if h.m.Running() != h.w.first || h.deniedCode(h.new) == "" {
			t.Errorf("slot %s cleared, journal lost: %s runs, %s is denied as %q", j.Slot, h.m.Running(), h.new, h.deniedCode(h.new))
		}
		return true
	})
}

// The same, and once a file cannot be read: that the denials do not tell of it is not known
// then.
func TestGoingBackIsNotForgottenWhereTheJournalIsOldAgain(t *testing.T) {
	const earlier = `{"denials":[]}` // a list that lacks the denial, and is whole
	denials := fmt.Appendf(nil, `{"format":1,"sha256":"%x","body":%s}`, sha256.Sum256([]byte("1\n"+earlier)), earlier)
	var armed []byte // the journal of the trial, as it was before the verdict
	killedEverywhere(t, stories[2], func(h *history) bool {
		j := h.m.Journal()
		if j.Phase == agent.Armed && h.m.Running() == h.new {
			armed = bytes.Clone(h.m.State.Bytes("journal.json"))
		}
		if j.Phase != agent.Reverting || h.m.Record().Denied.IsZero() || h.m.Running() != h.new {
			return false
		}
		h.m.State.Damage("denials.json", denials)
		h.m.State.Damage("denials.copy.json", denials)
		h.m.State.Damage("journal.json", armed)
		h.m.Restart(sim.Rebooted)
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if h.m.Running() != h.w.first || h.deniedCode(h.new) != agent.CodeDenied {
			t.Errorf("slot %s cleared, journal old: %s runs, %s is denied as %q", j.Slot, h.m.Running(), h.new, h.deniedCode(h.new))
		}
		return true
	})
}

func TestGoingBackIsNotForgottenWhereAFileCannotBeRead(t *testing.T) {
	killed := func(n int) *history {
		h, killed := killedBefore(t, stories[2], n)
		if !killed {
			t.Fatal("nothing went back")
		}
		return h
	}
	kill := 1
	for h := killed(kill); h.m.Journal().Phase != agent.Reverting || h.m.Running() != h.w.first || h.m.State.Bytes("denials.json") != nil; h = killed(kill) {
		kill++
	}
	for call := 1; call <= 45; call += stride(1) {
		h := killed(kill)
		h.m.State.Damage("journal.json", []byte("{"))
		h.m.FailAt(call)
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if h.m.Running() != h.w.first || h.deniedCode(h.new) == "" || len(h.m.Broken()) > 0 {
			t.Errorf("call %d fails: %s runs, %s is denied as %q; %v", call, h.m.Running(), h.new, h.deniedCode(h.new), h.m.Broken())
		}
	}
}

func TestOneDamagedCopyOfTheDenialsLosesNone(t *testing.T) {
	for _, name := range []string{"denials.json", "denials.copy.json"} {
		h, err := beginIn(stories[2], 1, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.settle(); err != nil {
			t.Fatal(err)
		}
		was := slices.Clone(h.m.State.Bytes(name))
		h.m.State.Damage(name, was[:len(was)/2])
		if err := h.settle(); err != nil {
			t.Fatal(err)
		}
		// The boot record mirrors it without the reason.
		if got := h.deniedCode(h.new); got != agent.CodeUnhealthy || !bytes.Equal(h.m.State.Bytes("denials.copy.json"), h.m.State.Bytes("denials.json")) {
			t.Errorf("%s damaged: denied as %q, want %q in both copies", name, got, agent.CodeUnhealthy)
		}
	}
}

func TestATrialIsJudgedThoughItsJournalIsOldAndNoMetadataIsFresh(t *testing.T) {
	var staged []byte
	killedEverywhere(t, stories[0], func(h *history) bool {
		if h.phase() == agent.Staged && staged == nil {
			staged = slices.Clone(h.m.State.Bytes("journal.json"))
		}
		j := h.m.Journal()
		if h.m.Running() != h.new || h.committed(j.Slot) || staged == nil {
			return false
		}
		h.m.State.Damage("journal.json", staged)
		h.m.SetTime(h.m.Clock().Now().AddDate(2, 0, 0)) // all metadata has expired
		h.m.Process(func(a *agent.Agent) {
			for range 5 {
				_ = a.Once(context.Background())
				h.m.SetTime(h.m.Clock().Now().Add(time.Minute))
			}
		})
		if h.m.Running() != h.new || !h.committed(j.Slot) {
			t.Errorf("%s runs, its slot is committed: %t", h.m.Running(), h.committed(j.Slot))
		}
		return true
	})
}

func TestARollbackByTheRecordAloneGoesToNoSlotThatIsNotProven(t *testing.T) {
	for name, c := range map[string]struct {
		spoil bool
		code  string
	}{"the other slot is whole": {false, ""}, "the other slot is spoilt": {true, agent.CodeSlot}} {
		h, err := beginIn(stories[0], 1, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.settle(); err != nil {
			t.Fatal(err)
		}
		if c.spoil {
			h.m.Spoil(partitions.A, "root", 0)
		}
		h.m.State.Damage("slot-a.json", []byte("{"))
		h.m.State.ReadOnly = true
		end, err := h.do(agent.Request{Verb: agent.VerbRollback})
		var refusal *agent.Refusal
		if errors.As(err, &refusal) != c.spoil || agent.CodeOf(err) != c.code || (end == sim.Rebooted) == c.spoil {
			t.Errorf("%s: got %v, %v, want code %q", name, err, end, c.code)
		}
	}
}

// A trial is left because nothing can be written, and the agent dies before it asks for the
// reboot. Then the disk takes writes again, and the journal is damaged: the slot that runs is
// not taken for one that somebody started by hand.
func TestATrialThatWasLeftWithoutStateIsNotForgottenWithItsJournal(t *testing.T) {
	killedEverywhere(t, stories[0], func(h *history) bool {
		slot := h.m.Journal().Slot
		if h.m.Running() != h.new || h.committed(slot) {
			return false
		}
		h.m.State.Full = true
		h.m.CutAt(5, sim.Killed) // the boot record has two copies, and each is written and flushed
		if !h.untilKilled() || h.m.Running() != h.new || h.m.Record().Slots[slot].Priority > 0 {
			return false
		}
		h.m.State.Full = false
		h.m.State.Damage("journal.json", []byte("{"))
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if h.m.Running() != h.new || !h.committed(slot) {
			t.Errorf("%s runs, its slot is committed: %t", h.m.Running(), h.committed(slot))
		}
		return true
	})
}
