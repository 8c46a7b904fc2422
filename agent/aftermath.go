package agent

import (
	"fmt"
	"slices"
	"time"
)

// lastWords is the end of the kernel's log of the trial that was left, for people.
func (a *Agent) lastWords(t *Transaction) []string {
	if words, _ := a.kernelLog(t, t.Started); words != nil {
		return words
	}
	return t.Kernel
}

// kernelLog is what is kept of the boots of the slot with what is tried there.
func (a *Agent) kernelLog(t *Transaction, after time.Time) (words []string, panicked time.Time) {
	if a.o.KernelLog == nil {
		return nil, time.Time{}
	}
	to, err := a.st.deployment(t.To)
	if err != nil || to == nil {
		return nil, time.Time{}
	}
	root, ok := to.Image("root")
	if !ok {
		return nil, time.Time{}
	}
	return a.o.KernelLog(t.Slot, root.Root, after)
}

// panicked is when the kernel of the trial that was left panicked last; zero if nothing says
// that it did. A panic of another trial is none of this one's: neither one from before it was
// armed, nor the one that was known then, which a clock that was put back makes look newer.
func (a *Agent) panicked(t *Transaction) time.Time {
	if t.ArmedAt.IsZero() {
		return time.Time{} // the journal was lost: it is not known since when
	}
	if _, at := a.kernelLog(t, t.ArmedAt); !at.Equal(t.OldPanic) {
		return at
	}
	return time.Time{}
}

// events are the history, and behind it the transaction under way, if a trial of it ended
// already: nobody should have to wait for its end to see why.
func (a *Agent) events() ([]HistoryEntry, error) {
	list, err := a.st.history()
	if err != nil {
		return nil, err
	}
	var t Transaction
	if a.st.load(fileJournal, &t) != nil || t.Phase != Staged || t.RetryAt.IsZero() {
		return list, nil
	}
	return append(list, HistoryEntry{
		Seq: t.Seq, Time: t.Started, Kind: string(t.Kind), Result: "trial-lost", Slot: t.Slot.String(),
		From: a.versionOf(t.From), To: a.versionOf(t.To), Code: CodeRetry, Bytes: t.Bytes, Evidence: t.Evidence, Kernel: t.Kernel,
		Text: fmt.Sprintf("trial %d of slot %s ended without a verdict; it is armed again at %s", t.Arms, t.Slot, t.RetryAt.Format(time.RFC3339)),
	}), nil
}

// newestLeft is how the newest transaction with a trial ended, if it was left.
func (a *Agent) newestLeft() *HistoryEntry {
	list, err := a.events()
	if err != nil {
		return nil // it explains, and nothing depends on it
	}
	for _, e := range slices.Backward(list) {
		switch {
		case e.App != "":
		case e.Result == "committed":
			return nil
		case e.Result == "rolled-back", e.Result == "trial-lost":
			return &e
		}
	}
	return nil
}

// damage is what is wrong with the root that runs; "" if nothing is known to be.
func (a *Agent) damage() string {
	if a.o.Damage == nil {
		return ""
	}
	return a.o.Damage()
}

// refill is the wish of a host whose root is damaged: what runs once more, in the other
// slot, whatever window and rollout say of it; the zero wish where there is no need. While
// the other slot can be started, the guard leaves for that one, and an ordinary update
// writes this one anew.
func (a *Agent) refill(m machine) wish {
	if a.damage() == "" || m.record.Slots[m.boot.Slot.Other()].Bootable() {
		return wish{}
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return wish{}
	}
	running, err := a.st.deployment(p.Current)
	if err != nil || running == nil {
		return wish{}
	}
	return wish{version: running.Version, now: true}
}
