package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// markStaged records that the slot holds the deployment: first the slot's pointer, so
// that the journal never calls a slot staged that says it is empty.
func (a *Agent) markStaged(t *Transaction) error {
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return err
	}
	if p.Current != t.To {
		if err := a.st.save(pointerFile(t.Slot), &Pointer{Current: t.To, Previous: p.Previous}); err != nil {
			return err
		}
	}
	t.Phase = Staged
	if err := a.save(t); err != nil {
		return err
	}
	return a.st.remove(fileCheckpoint)
}

// markArmed takes the baseline of the probes and writes down that the trial is meant,
// in this boot, before the boot record says so.
func (a *Agent) markArmed(ctx context.Context, m machine, t *Transaction) error {
	a.progress(Event{Step: "arm", Text: "taking the baseline of the health probes"})
	var err error
	if t.Baseline, err = a.baseline(ctx); err != nil {
		return err
	}
	if err := a.keepReleaseApps(ctx, m, t); err != nil {
		return err
	}
	if err := a.armApps(ctx, m, t); err != nil {
		return err
	}
	t.Phase, t.ArmedIn = Armed, m.boot.ID
	t.ArmedAt = a.now()
	_, t.OldPanic = a.kernelLog(t, time.Time{})
	t.Arms++
	return a.save(t)
}

// arm makes the slot boot next, on trial.
func (a *Agent) arm(ctx context.Context, m machine, t *Transaction) error {
	s, err := m.record.Arm(t.Slot, a.o.Tries)
	if err != nil {
		return &Refusal{Reason{CodeLoader, err.Error()}, err}
	}
	a.progress(Event{Step: "arm", Text: fmt.Sprintf("slot %s boots next, with %d tries", t.Slot, a.o.Tries)})
	return a.store(ctx, s)
}

// store writes the boot record.
func (a *Agent) store(ctx context.Context, s bootloader.State) error {
	if err := a.o.Loader.Store(ctx, s); err != nil {
		// It may read as written and not be: a flush that failed says nothing.
		a.settled = false
		return &Refusal{Reason{CodeLoader, fmt.Sprintf("write boot record: %v", err)}, err}
	}
	return nil
}
