package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// markReverting writes down that the trial failed, and why, before the boot record is
// turned back: otherwise a crash in between would make a bad release look like a lost
// trial, to be tried again.
func (a *Agent) markReverting(m machine, t *Transaction) error {
	t.Phase = Reverting
	switch {
	case t.Verdict != nil:
	case m.boot.Slot != t.Slot && !a.panicked(t).IsZero():
		t.Verdict = &Reason{CodePanic, fmt.Sprintf("the kernel of slot %s panicked in its trial", t.Slot)}
	case m.boot.Slot != t.Slot:
		t.Verdict = &Reason{CodeUnbootable, fmt.Sprintf("the loader took slot %s, could not start it, and started slot %s in the same boot", t.Slot, m.boot.Slot)}
	default:
		t.Verdict = &Reason{CodeUnhealthy, strings.Join(a.judged.Reasons, "; ")}
		t.Evidence = a.judged.Evidence
		// The operator who wanted to choose the moment of the trial has chosen it: nobody
		// stands by to leave it.
		t.NoReboot = false
	}
	a.progress(Event{Step: "revert", Text: t.Verdict.Text})
	a.log.Warn("leaving the trial", "txn", t.Seq, "slot", t.Slot, "code", t.Verdict.Code, "text", t.Verdict.Text)
	return a.save(t)
}

// revert makes the old slot stand alone, and mirrors the denial in the boot record.
func (a *Agent) revert(ctx context.Context, m machine, t *Transaction) error {
	s, err := m.record.Revert(t.Slot)
	if err != nil {
		return &Refusal{Reason{CodeLoader, err.Error()}, err}
	}
	return a.store(ctx, a.mirrored(s, t))
}

// mirrored is s with the denial of what is being left.
func (a *Agent) mirrored(s bootloader.State, t *Transaction) bootloader.State {
	if to, err := a.st.deployment(t.To); err == nil && to != nil {
		s.Denied, s.DeniedAttempt = to.Digest, to.Attempt
	}
	return s
}

// finishRevert records the denial and ends the transaction. The old slot runs.
func (a *Agent) finishRevert(ctx context.Context, m machine, t *Transaction) error {
	if s := a.mirrored(m.record, t); s != m.record {
		// An operator took back an earlier denial of it in the meantime.
		if err := a.store(ctx, s); err != nil {
			return err
		}
	}
	v := Reason{CodeUnhealthy, "left without a recorded reason"}
	if t.Verdict != nil {
		v = *t.Verdict
	}
	if err := a.deny(t, v); err != nil {
		return err
	}
	if err := a.leaveTrialApps(t, v.Text); err != nil {
		return err
	}
	t.Kernel = a.lastWords(t)
	return a.finish(t, HistoryEntry{Result: "rolled-back", Code: v.Code, Text: v.Text})
}

func (a *Agent) deny(t *Transaction, v Reason) error {
	to, err := a.st.deployment(t.To)
	if err != nil || to == nil {
		return err
	}
	return a.st.deny(Denial{
		Deployment: to.Digest, Attempt: to.Attempt, Version: to.Version, Code: v.Code, Text: v.Text, Time: a.now(),
	})
}

// lostWaits is how long a lost trial waits before it is armed again. After the last one
// it is held.
var lostWaits = [...]time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour}

// finishLost ends a trial of which nothing is known: no verdict, no evidence. Power cuts
// do that, so it says nothing against the release.
func (a *Agent) finishLost(t *Transaction) error {
	text := fmt.Sprintf("trial %d of slot %s ended without a verdict", t.Arms, t.Slot)
	if err := a.leaveTrialApps(t, text); err != nil {
		return err
	}
	t.Kernel = a.lastWords(t)
	if t.To == 0 {
		return a.finish(t, HistoryEntry{Result: "abandoned", Code: CodeTrialLost, Text: text})
	}
	if t.Arms > len(lostWaits) {
		v := Reason{CodeTrialLost, text + "; held until a newer release, a higher attempt or undeny"}
		if err := a.deny(t, v); err != nil {
			return err
		}
		return a.finish(t, HistoryEntry{Result: "trial-lost", Code: v.Code, Text: v.Text})
	}
	t.RetryAt = a.now().Add(lostWaits[max(t.Arms, 1)-1])
	a.log.Warn("trial lost, it will be armed again", "txn", t.Seq, "arms", t.Arms, "at", t.RetryAt)
	t.Phase, t.ArmedIn, t.VerifiedIn = Staged, "", ""
	return a.save(t)
}

// leaveWithoutState ends a trial on a machine whose state directory cannot be written:
// neither a commit nor a verdict could be kept, so the boot record alone turns back.
func (a *Agent) leaveWithoutState(ctx context.Context, m machine, cause error) error {
	a.log.Error("the state directory is not usable in a trial: going back by the boot record alone", "slot", m.boot.Slot, "err", cause)
	s, err := m.record.Revert(m.boot.Slot)
	if err != nil {
		// Nothing to go back to: stay up, degraded and reachable.
		return &Refusal{Reason{CodeNoFallback, err.Error()}, err}
	}
	if m.record.Slots[m.boot.Slot] != (bootloader.Record{}) {
		if err := a.store(ctx, s); err != nil {
			return err
		}
	}
	a.progress(Event{Step: "revert", Text: "state directory is not usable: " + cause.Error()})
	if err := a.o.Reboot(ctx); err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	return &Refusal{Reason{CodeState, "left the trial: " + cause.Error()}, cause}
}
