package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
)

// Each test of this file is a trial whose journal was lost, or is again what it was before:
// the boot record alone says that it is one.

// onTrial says whether the boot record calls slot a trial.
func (h *history) onTrial(slot partitions.Slot) bool {
	r := h.m.Record().Slots[slot]
	return r.Priority > 0 && !r.Successful
}

func TestAWayBackThatWasLeftWithoutStateIsNotForgottenWithItsJournal(t *testing.T) {
	killedEverywhere(t, stories[4], func(h *history) bool {
		j := h.m.Journal()
		if j.Kind != agent.KindRollback || h.m.Running() != h.w.first || !h.onTrial(j.Slot) {
			return false
		}
		h.m.State.Full = true
		h.m.CutAt(5, sim.Killed) // the boot record has two copies, and each is written and flushed
		if !h.untilKilled() || h.m.Running() != h.w.first || h.m.Record().Slots[j.Slot].Priority > 0 {
			return false
		}
		h.m.State.Full = false
		h.m.Lower(h.w.first.Manifest.Version) // an operator wants it, and the journal was all that said so
		h.m.State.Damage("journal.json", []byte("{"))
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if !h.committed(h.m.Standing()) || h.m.Holds(h.m.Standing()) != h.m.Running() {
			t.Errorf("%s runs, and the boot record has %+v", h.m.Running(), h.m.Record().Slots)
		}
		return true
	})
}

func TestACommitThatALostJournalDoesNotTellOfIsCarriedOut(t *testing.T) {
	killedEverywhere(t, stories[0], func(h *history) bool {
		slot := h.m.Journal().Slot
		if h.m.Running() != h.new || !h.onTrial(slot) {
			return false
		}
		h.m.State.Damage("journal.json", []byte("{"))
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		var p agent.Pointer
		h.state("slot-"+slot.String()+".json", &p)
		var past struct{ Entries []agent.HistoryEntry }
		h.state("history.json", &past)
		if !p.Committed || !slices.ContainsFunc(past.Entries, func(e agent.HistoryEntry) bool { return e.Result == "committed" }) {
			t.Errorf("%s runs; its pointer is %+v, the history %+v", h.m.Running(), p, past.Entries)
		}
		return true
	})
}

func TestATrialOfWhichTheJournalIsOldIsLeftByHand(t *testing.T) {
	var old []byte
	killedEverywhere(t, stories[0], func(h *history) bool {
		j := h.m.Journal()
		if j.Phase == agent.Staged {
			old = slices.Clone(h.m.State.Bytes("journal.json"))
		}
		if h.m.Running() != h.new || !h.onTrial(j.Slot) {
			return false
		}
		h.m.State.Damage("journal.json", old)
		end, err := h.do(agent.Request{Verb: agent.VerbRollback})
		if err != nil || end != sim.Rebooted {
			t.Errorf("rollback: %v, %v", err, end)
		}
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		if h.m.Running() != h.w.first || h.deniedCode(h.new) != agent.CodeByHand {
			t.Errorf("%s runs, %s is denied as %q", h.m.Running(), h.new, h.deniedCode(h.new))
		}
		return true
	})
}

// inTrial returns a function that makes a history whose agent was killed in a trial, and the
// journal as it was before.
func inTrial(t *testing.T) (trial func() *history, old []byte) {
	t.Helper()
	kill := 0
	trial = func() *history {
		h, killed := killedBefore(t, stories[0], kill)
		if !killed {
			t.Fatal("there was no trial")
		}
		return h
	}
	for kill = 1; ; kill++ {
		h := trial()
		switch j := h.m.Journal(); {
		case j.Phase == agent.Staged:
			old = slices.Clone(h.m.State.Bytes("journal.json"))
		case h.m.Running() == h.new && h.onTrial(j.Slot):
			return trial, old
		}
	}
}

// A daemon that meets an error in such a trial looks again soon: it has a deadline.
func TestATrialOfWhichTheJournalIsOldIsDecidedInTimeWhateverFailsOnce(t *testing.T) {
	trial, old := inTrial(t)
	for call := 1; call <= 60; call += stride(1) {
		h := trial()
		h.m.State.Damage("journal.json", old)
		h.m.FailAt(call)
		h.m.Process(h.m.Daemon(1))
		if broken := h.m.Broken(); len(broken) > 0 {
			t.Errorf("call %d fails: %v", call, broken)
		}
	}
}

// Without its pointer too, the slot on trial is compared with what is known: it may not pass
// for one of which nothing is, because it could not be read at once.
func TestATrialIsKnownByWhatItsSlotHoldsWhateverFailsOnce(t *testing.T) {
	trial, _ := inTrial(t)
	for call := 1; call <= 60; call += stride(1) {
		h := trial()
		slot := h.m.Journal().Slot
		h.m.State.Damage("journal.json", []byte("{"))
		h.m.State.Damage("slot-"+slot.String()+".json", []byte("{"))
		h.m.FailAt(call)
		if err := h.settle(); err != nil {
			t.Error(err)
		}
		var p agent.Pointer
		h.state("slot-"+slot.String()+".json", &p)
		if !p.Committed || p.Current == 0 || len(h.m.Broken()) > 0 {
			t.Errorf("call %d fails: %s runs, its pointer is %+v; %v", call, h.m.Running(), p, h.m.Broken())
		}
	}
}

// What could not be made durable reads as it was written until the power goes: it is written
// again before anything builds on it.
func TestWhatCouldNotBeSyncedIsWrittenAgain(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		for n := 1; ; n += stride(1) {
			h, happened, wrong, err := play(stories[6], fault{kind: "error", n: n, fate: sim.Lost, seed: seed, abrupt: true})
			if err != nil {
				t.Fatal(err)
			}
			if !happened {
				break
			}
			for _, w := range wrong {
				t.Errorf("call %d fails, seed %d: %s\n%s", n, seed, w, h.tail())
			}
		}
	}
}

func TestAWayBackByHandIsOneWhenItsJournalIsLost(t *testing.T) {
	killedEverywhere(t, stories[4], func(h *history) bool {
		j := h.m.Journal()
		if j.Kind != agent.KindRollback || h.m.Running() != h.w.first || !h.onTrial(j.Slot) {
			return false
		}
		h.m.State.Damage("journal.json", []byte("{"))
		for range 10 {
			h.m.Process(sim.Once)
			h.m.Pass(7 * time.Hour)
		}
		if h.m.Running() != h.w.first || h.deniedCode(h.new) != agent.CodeByHand {
			t.Errorf("an operator went back, and %s runs; what was left is denied as %q", h.m.Running(), h.deniedCode(h.new))
		}
		return true
	})
}
