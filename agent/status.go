package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/partitions"
)

// status gathers what an operator wants to see first. Whatever cannot be read becomes a
// reason; a status is always an answer.
func (a *Agent) status(ctx context.Context) (*Status, error) {
	s := &Status{Format: 1, Phase: Idle, Channel: a.o.Channel, Reasons: []Reason{}, Slots: []SlotStatus{}}
	problem := func(err error) {
		if err == nil {
			return
		}
		var r *Refusal
		if !errors.As(err, &r) {
			r = &Refusal{Reason{CodeState, err.Error()}, err}
		}
		if !slices.Contains(s.Reasons, r.Reason) {
			s.Reasons = append(s.Reasons, r.Reason)
		}
	}
	m, err := a.machine(ctx)
	if err != nil {
		problem(err)
	} else {
		a.slotStatus(s, m, problem)
	}
	a.memoryStatus(s)
	now := a.now()
	hold, err := a.st.hold(now)
	problem(err)
	if s.Hold = hold; hold != nil && !slices.ContainsFunc(s.Reasons, func(r Reason) bool { return r.Code == CodeHeld }) {
		s.Reasons = append(s.Reasons, Reason{CodeHeld, holdText(hold)})
	}
	s.Denied, err = a.st.denials()
	problem(err)
	if text := a.damage(); text != "" {
		s.Reasons = append(s.Reasons, Reason{CodeSlot, text})
	}
	if a.unproven() {
		s.Reasons = append(s.Reasons, Reason{CodeUnproven, "committed without a firmware boot: the fallback is kept until one succeeds"})
	}
	return s, nil
}

func holdText(h *Hold) string {
	text := "updates are held"
	if !h.Until.IsZero() {
		text += " until " + h.Until.Format(time.RFC3339)
	}
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// slotStatus fills in what the two witnesses say of the slots.
func (a *Agent) slotStatus(s *Status, m machine, problem func(error)) {
	s.Running, s.Epoch = m.boot.Slot.String(), a.epoch(m)
	if next, ok := m.record.Next(); ok {
		s.Next = next.String()
	}
	for _, slot := range partitions.Slots {
		r := m.record.Slots[slot]
		st := SlotStatus{Name: slot.String(), Priority: r.Priority, Tries: r.Tries, Successful: r.Successful, Running: slot == m.boot.Slot}
		p, err := a.st.pointer(slot)
		problem(err)
		d, err := a.st.deployment(p.Current)
		problem(err)
		if d != nil {
			st.Version, st.Deployment = &d.Version, d.Number
			if i, ok := d.Image("root"); ok {
				st.Root = &i.Root
			} else if len(d.Images) > 0 {
				st.Root = &d.Images[0].Root
			}
		}
		s.Slots = append(s.Slots, st)
	}
	t, err := a.journal(m)
	problem(err)
	if err == nil && t.Phase != Idle {
		s.Phase = t.Phase
		s.Txn = &TxnStatus{Kind: string(t.Kind), Slot: t.Slot, Version: a.versionOf(t.To), Arms: t.Arms}
		if a.o.Clock.Now().Before(t.RetryAt) {
			s.Reasons = append(s.Reasons, Reason{CodeRetry, "the trial was lost and is armed again at " + t.RetryAt.Format(time.RFC3339)})
		}
		if t.Phase == Armed && t.Slot != m.boot.Slot {
			s.Reasons = append(s.Reasons, Reason{CodeReboot, "the trial of slot " + t.Slot.String() + " begins with the next boot"})
		}
	}
	_, d, reason, err := a.fallback(m)
	problem(err)
	s.Rollback.Possible = err == nil && reason == nil
	s.Rollback.Reason = reason
	if d != nil {
		s.Rollback.Version = &d.Version
	}
}

// memoryStatus fills in what only this process knows.
func (a *Agent) memoryStatus(s *Status) {
	a.mem.Lock()
	defer a.mem.Unlock()
	if !a.last.at.IsZero() {
		at := a.last.at
		s.LastCheck = &at
	}
	s.Offer, s.Progress = a.last.offer, a.event
	for _, r := range a.last.reasons {
		if !slices.Contains(s.Reasons, r) {
			s.Reasons = append(s.Reasons, r)
		}
	}
	if a.last.clockBehind {
		s.Reasons = append(s.Reasons, Reason{CodeClockBehind, "the clock is before the newest time that signed metadata proves"})
	}
	if e := a.last.expires; !e.IsZero() {
		s.Expires = &e
	}
	s.Warnings = trustWarnings(a.last.trust, a.o.Clock.Now())
	if a.last.withdrawn != "" {
		s.Warnings = append(s.Warnings, a.last.withdrawn)
	}
}
