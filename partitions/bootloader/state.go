package bootloader

import (
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Record is what the loader knows of one slot.
type Record struct {
	Priority   uint8 `json:"priority"` // 0: never boot; the higher one of two boots first
	Tries      uint8 `json:"tries"`    // trial boots left; counts only while not Successful
	Successful bool  `json:"successful"`
}

// Bootable reports whether a loader may start the slot.
func (r Record) Bootable() bool { return r.Priority > 0 && (r.Successful || r.Tries > 0) }

// The largest values that every backend can store.
const (
	MaxTries    = 7 // trial boots
	MaxPriority = 2 // the methods of State produce 0, 1 and 2
)

// State is the whole boot record. The agent also mirrors here what must survive the
// loss of the data partition: the highest epoch ever committed, and the deployment
// that was denied last.
type State struct {
	Slots         [2]Record      `json:"slots"`
	Epoch         uint64         `json:"epoch"`
	Denied        release.Digest `json:"denied"`
	DeniedAttempt uint64         `json:"deniedAttempt"`
}

// Next returns the slot that the loader starts next; ok is false if none can boot.
// Equal priorities, which no method here produces, resolve to the successful slot,
// then to A.
func (s State) Next() (slot partitions.Slot, ok bool) {
	a, b := s.Slots[partitions.A], s.Slots[partitions.B]
	switch {
	case !a.Bootable() && !b.Bootable():
		return 0, false
	case !b.Bootable():
		return partitions.A, true
	case !a.Bootable():
		return partitions.B, true
	case b.Priority > a.Priority, b.Priority == a.Priority && b.Successful && !a.Successful:
		return partitions.B, true
	}
	return partitions.A, true
}

// Check refuses a state that must not be stored: one in which nothing boots, whose
// values not every loader can hold, or in which it is a matter of taste what boots.
func (s State) Check() error {
	for _, slot := range partitions.Slots {
		r := s.Slots[slot]
		if r.Priority > MaxPriority || r.Tries > MaxTries {
			return fmt.Errorf("boot record: slot %s: got priority %d and %d tries, want at most %d and %d",
				slot, r.Priority, r.Tries, MaxPriority, MaxTries)
		}
	}
	a, b := s.Slots[partitions.A], s.Slots[partitions.B]
	if !a.Bootable() && !b.Bootable() {
		return fmt.Errorf("boot record: no slot can boot: a %+v, b %+v", a, b)
	}
	if a.Bootable() && b.Bootable() && a.Priority == b.Priority {
		return fmt.Errorf("boot record: both slots have priority %d", a.Priority)
	}
	return nil
}

// Standing returns the state without its trials: what is left to a loader that cannot
// save a counter, and so may not start a trial.
func (s State) Standing() State {
	for i := range s.Slots {
		if !s.Slots[i].Successful {
			s.Slots[i].Tries = 0
		}
	}
	return s
}

// Booted returns the state as the loader leaves it when it starts slot: one try less
// while the slot is on trial.
func (s State) Booted(slot partitions.Slot) State {
	if r := &s.Slots[slot]; !r.Successful && r.Tries > 0 {
		r.Tries--
	}
	return s
}

// Clear makes slot unbootable. It is done, durably, before the slot's first byte is
// written. The other slot has to be able to stand alone.
func (s State) Clear(slot partitions.Slot) (State, error) {
	if o := slot.Other(); !s.Slots[o].Bootable() || !s.Slots[o].Successful {
		return s, fmt.Errorf("clear slot %s: slot %s is not a committed, bootable slot (%+v)", slot, o, s.Slots[o])
	}
	s.Slots[slot] = Record{}
	return s.settled(), nil
}

// Arm puts slot first for a number of trial boots; the other slot, which has to be
// committed, stays the one to fall back to.
func (s State) Arm(slot partitions.Slot, tries uint8) (State, error) {
	o := slot.Other()
	if tries < 1 || tries > MaxTries {
		return s, fmt.Errorf("arm slot %s: got %d tries, want 1 to %d", slot, tries, MaxTries)
	}
	if !s.Slots[o].Bootable() || !s.Slots[o].Successful {
		return s, fmt.Errorf("arm slot %s: slot %s is not a committed, bootable slot (%+v)", slot, o, s.Slots[o])
	}
	s.Slots[slot] = Record{Priority: 2, Tries: tries}
	s.Slots[o].Priority = 1
	return s, nil
}

// Commit makes slot, which is the running one, the standing slot.
func (s State) Commit(slot partitions.Slot) State {
	s.Slots[slot] = Record{Priority: 2, Successful: true}
	if o := &s.Slots[slot.Other()]; o.Bootable() {
		o.Priority = 1
	}
	return s
}

// Revert ends the trial of slot: it cannot boot any more and the other slot stands.
func (s State) Revert(slot partitions.Slot) (State, error) {
	r, err := s.Clear(slot)
	if err != nil {
		return s, fmt.Errorf("revert: %w", err)
	}
	return r, nil
}

// settled returns s with the one bootable slot at the standing priority.
func (s State) settled() State {
	for i := range s.Slots {
		if s.Slots[i].Bootable() && !s.Slots[partitions.Slot(i).Other()].Bootable() {
			s.Slots[i].Priority = 2
		}
	}
	return s
}
