package agent

import (
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// rollback goes back by hand, without a server: from a trial it ends the trial; from a
// committed release it opens a transaction to the other slot, which is read back, tried
// and judged like any other.
func (a *Agent) rollback(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if r.Data != "" && r.Data != "keep" && r.Data != "restore" {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("data: got %.20q, want keep or restore", r.Data)}, nil}
	}
	if err := a.st.writable(); err != nil {
		return a.rollbackByRecord(ctx, m, err)
	}
	if err := a.prepare(ctx, m); err != nil {
		return nil, err
	}
	t, err := a.journal(m)
	if err != nil {
		return nil, err
	}
	if t.Phase == Armed && a.observe(m, &t).Successful {
		// The trial is over and was a good one: only the journal does not say so yet.
		if t, err = a.endCommit(ctx, m, t); err != nil {
			return nil, err
		}
	}
	switch {
	case t.Phase == Armed && t.Kind == KindRollback && t.Slot != m.boot.Slot:
		// It is on its way already; asked again, the reboot is asked for again.
		t.NoReboot = r.NoReboot
		if err := a.save(&t); err != nil {
			return nil, err
		}
		return a.goBack(ctx, t)
	case t.Phase == Armed:
		return a.endTrial(ctx, m, t, r)
	case t.Phase == Reverting:
		return nil, &Refusal{Reason{CodeBusy, fmt.Sprintf("transaction %d goes back already", t.Seq)}, nil}
	case t.Phase != Idle && t.Kind == KindUpdate && m.record.Slots[t.Slot].Priority == 0:
		return nil, &Refusal{Reason{CodeNoFallback, fmt.Sprintf("slot %s is being written with %s: there is nothing else to go back to", t.Slot, a.versionOf(t.To))}, nil}
	}
	p, _, reason, err := a.fallback(m)
	if err != nil {
		return nil, err
	}
	if reason != nil && (reason.Code != CodeEpoch || !r.Force) {
		return nil, &Refusal{*reason, nil}
	}
	if reason != nil && r.Reason == "" {
		return nil, &Refusal{Reason{CodeUsage, "a rollback below the security epoch needs --reason as well as --force"}, nil}
	}
	if err := a.readsRunningData(m, p, r); err != nil {
		return nil, err
	}
	if t.Phase != Idle {
		if err := a.finish(&t, HistoryEntry{Result: "abandoned", Code: CodeByHand, Text: "the operator goes back"}); err != nil {
			return nil, err
		}
	}
	running, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return nil, err
	}
	t = Transaction{
		Seq: t.Seq + 1, Phase: Staged, Kind: KindRollback, Slot: m.boot.Slot.Other(), From: running.Current, To: p.Current,
		NoReboot: r.NoReboot, Reason: r.Reason, Data: r.Data, Started: a.now(),
	}
	if err := a.save(&t); err != nil {
		return nil, err
	}
	return a.goBack(ctx, t)
}

// endCommit finishes a commit that was interrupted after the boot record had it.
func (a *Agent) endCommit(ctx context.Context, m machine, t Transaction) (Transaction, error) {
	if err := a.settle(ctx, m, &t); err != nil {
		return t, err
	}
	if err := a.finishCommit(m, &t); err != nil {
		return t, err
	}
	return a.journal(m)
}

// goBack advances to the reboot and says what happens.
func (a *Agent) goBack(ctx context.Context, t Transaction) (*Outcome, error) {
	to := a.versionOf(t.To)
	step, now, err := a.advance(ctx)
	if err != nil {
		return nil, err
	}
	o := &Outcome{Reboot: step == StepReboot}
	switch {
	case step == StepReboot && now.NoReboot:
		o.Text = fmt.Sprintf("slot %s with %s boots next", t.Slot, to)
	case step == StepReboot:
		o.Text = fmt.Sprintf("rebooting into slot %s with %s", t.Slot, to)
	default:
		o.Text = fmt.Sprintf("the rollback to %s is %s", to, now.Phase)
	}
	return o, nil
}

// endTrial leaves a trial by hand: the running one, or one that waits for its reboot.
func (a *Agent) endTrial(ctx context.Context, m machine, t Transaction, r Request) (*Outcome, error) {
	t.Verdict = &Reason{CodeByHand, reasonText(&Transaction{Reason: r.Reason})}
	t.NoReboot = r.NoReboot
	if err := a.markReverting(m, &t); err != nil {
		return nil, err
	}
	step, _, err := a.advance(ctx)
	if err != nil {
		return nil, err
	}
	if step == StepReboot {
		return &Outcome{Text: fmt.Sprintf("the trial of slot %s is over; rebooting into slot %s", t.Slot, t.Slot.Other()), Reboot: true}, nil
	}
	return &Outcome{Text: fmt.Sprintf("slot %s is not tried", t.Slot)}, nil
}

// fallback says what a rollback would go to, and what stands against it.
func (a *Agent) fallback(m machine) (Pointer, *Deployment, *Reason, error) {
	other := m.boot.Slot.Other()
	p, err := a.st.pointer(other)
	if err != nil {
		return p, nil, nil, err
	}
	d, err := a.st.deployment(p.Current)
	if err != nil || d == nil || !p.Committed {
		return p, nil, &Reason{CodeNoFallback, fmt.Sprintf("slot %s holds no release that was ever committed", other)}, nil
	}
	if len(d.Images) == 0 {
		return p, nil, &Reason{CodeNoFallback, fmt.Sprintf("slot %s holds the factory system, of which no manifest was given: it cannot be verified", other)}, nil
	}
	if e := a.epoch(m); d.Epoch < e {
		return p, d, &Reason{CodeEpoch, fmt.Sprintf("release %s has security epoch %d, this host is at %d: --force and --reason are needed", d.Version, d.Epoch, e)}, nil
	}
	return p, d, nil, nil
}

// rollbackByRecord goes back on a host without a usable state directory: what can be
// known is that the loader calls the other slot successful.
func (a *Agent) rollbackByRecord(ctx context.Context, m machine, cause error) (*Outcome, error) {
	other := m.boot.Slot.Other()
	if r := m.record.Slots[other]; !r.Successful || !r.Bootable() {
		return nil, &Refusal{Reason{CodeNoFallback, fmt.Sprintf("slot %s is not bootable, and without the state directory nothing more is known of it (%v)", other, cause)}, nil}
	}
	if text := a.spoilt(ctx, other); text != "" {
		return nil, &Refusal{Reason{CodeSlot, text}, nil}
	}
	s := m.record.Commit(other)
	if m.record.Slots[m.boot.Slot].Successful {
		s.Slots[m.boot.Slot] = bootloader.Record{Priority: 1, Successful: true}
	} else {
		// Nobody has proven what is left: it is no fallback.
		s.Slots[m.boot.Slot] = bootloader.Record{}
	}
	if err := a.store(ctx, s); err != nil {
		return nil, err
	}
	if err := a.o.Reboot(ctx); err != nil {
		return nil, fmt.Errorf("ask for a reboot: %w", err)
	}
	return &Outcome{Reboot: true, Text: fmt.Sprintf("rebooting into slot %s by the boot record alone; the denial of what runs now was not saved: %v", other, cause)}, nil
}

// spoilt says what is wrong with a slot, as far as the state directory can still be read;
// "" where nothing is known to be.
func (a *Agent) spoilt(ctx context.Context, slot partitions.Slot) string {
	if a.st.dir == nil {
		return ""
	}
	p, err := a.st.pointer(slot)
	if err != nil || p.Current == 0 {
		return a.heldBy(ctx, slot, err)
	}
	d, err := a.st.deployment(p.Current)
	if err != nil {
		return fmt.Sprintf("slot %s: nothing says any more what it has to hold: %v", slot, err)
	}
	reports, err := a.verifySlot(ctx, slot, d)
	if err != nil {
		return fmt.Sprintf("slot %s: %v", slot, err)
	}
	if len(reports) == 0 || allOK(reports) {
		return ""
	}
	return fmt.Sprintf("slot %s: %s", slot, firstFault(reports))
}

// heldBy is spoilt for a slot whose pointer cannot be read, or names nothing: "" if it
// holds a deployment that is on file, whichever that is.
func (a *Agent) heldBy(ctx context.Context, slot partitions.Slot, cause error) string {
	n, err := a.holds(ctx, slot, 0)
	switch {
	case err != nil:
		return fmt.Sprintf("slot %s: %v", slot, err)
	case n == 0 && cause != nil:
		return fmt.Sprintf("slot %s holds no deployment that is on file, and nothing says any more what it has to hold: %v", slot, cause)
	case n == 0:
		return fmt.Sprintf("slot %s holds no deployment that is on file", slot)
	}
	return ""
}
