package bootloader

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

func drawSlot(t *rapid.T) partitions.Slot {
	return partitions.Slot(rapid.IntRange(0, 1).Draw(t, "slot"))
}

func drawRecord(t *rapid.T, label string) Record {
	return Record{
		Priority:   rapid.Uint8Range(0, MaxPriority).Draw(t, label+" priority"),
		Tries:      rapid.Uint8Range(0, MaxTries).Draw(t, label+" tries"),
		Successful: rapid.Bool().Draw(t, label+" successful"),
	}
}

// drawStanding draws any state, but one in which slot is committed and can boot.
func drawStanding(t *rapid.T, slot partitions.Slot) State {
	s := State{Epoch: rapid.Uint64().Draw(t, "epoch"), DeniedAttempt: rapid.Uint64().Draw(t, "attempt"), Denied: release.DigestOf([]byte("x"))}
	s.Slots[slot.Other()] = drawRecord(t, "other")
	s.Slots[slot] = Record{Priority: rapid.Uint8Range(1, MaxPriority).Draw(t, "priority"), Successful: true}
	return s
}

func sameMirror(a, b State) bool {
	return a.Epoch == b.Epoch && a.Denied == b.Denied && a.DeniedAttempt == b.DeniedAttempt
}

func mustNext(t *rapid.T, s State) partitions.Slot {
	next, ok := s.Next()
	if !ok {
		t.Fatalf("nothing boots: %+v", s.Slots)
	}
	return next
}

func TestWithAStandingSlotEveryTransitionLeavesSomethingThatBoots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		standing := drawSlot(t)
		o := standing.Other()
		s := drawStanding(t, standing)

		cleared, err := s.Clear(o)
		if err != nil || mustNext(t, cleared) != standing || cleared.Slots[o] != (Record{}) || cleared.Check() != nil || !sameMirror(s, cleared) {
			t.Fatalf("clear: %+v, %v", cleared, err)
		}
		tries := rapid.Uint8Range(1, MaxTries).Draw(t, "tries")
		armed, err := s.Arm(o, tries)
		if err != nil || mustNext(t, armed) != o || armed.Check() != nil || !sameMirror(s, armed) {
			t.Fatalf("arm: %+v, %v", armed, err)
		}
		for n := armed; ; n = n.Booted(o) { // the trial ends by itself
			next := mustNext(t, n)
			if n.Slots[o].Tries == 0 {
				if next != standing {
					t.Fatalf("no tries left and yet %s is next", next)
				}
				break
			}
			if next != o {
				t.Fatalf("%d tries left and yet %s is next", n.Slots[o].Tries, next)
			}
		}
		if next := mustNext(t, armed.Standing()); next != standing {
			t.Fatalf("without trials %s is next", next)
		}
		committed := armed.Booted(o).Commit(o)
		if mustNext(t, committed) != o || committed.Check() != nil || !committed.Slots[standing].Bootable() || !sameMirror(s, committed) {
			t.Fatalf("commit: %+v", committed)
		}
		reverted, err := armed.Revert(o)
		if err != nil || mustNext(t, reverted) != standing || reverted.Slots[o].Bootable() || reverted.Check() != nil || !sameMirror(s, reverted) {
			t.Fatalf("revert: %+v, %v", reverted, err)
		}
	})
}

func TestWithoutAStandingSlotNothingIsClearedOrArmed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slot := drawSlot(t)
		var s State
		s.Slots[slot] = drawRecord(t, "slot")
		s.Slots[slot.Other()] = drawRecord(t, "other")
		if o := s.Slots[slot.Other()]; o.Bootable() && o.Successful {
			t.Skip("the other slot can stand")
		}
		for name, f := range map[string]func() (State, error){
			"clear":  func() (State, error) { return s.Clear(slot) },
			"arm":    func() (State, error) { return s.Arm(slot, 3) },
			"revert": func() (State, error) { return s.Revert(slot) },
		} {
			if got, err := f(); err == nil || got != s {
				t.Fatalf("%s: got %+v, %v", name, got, err)
			}
		}
	})
}

func TestNextNeverPicksASlotThatCannotBoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		s.Slots[partitions.A] = drawRecord(t, "a")
		s.Slots[partitions.B] = drawRecord(t, "b")
		next, ok := s.Next()
		a, b := s.Slots[partitions.A], s.Slots[partitions.B]
		if ok != (a.Bootable() || b.Bootable()) {
			t.Fatalf("ok is %v for %+v", ok, s.Slots)
		}
		if ok && !s.Slots[next].Bootable() {
			t.Fatalf("picked %s of %+v", next, s.Slots)
		}
		if ok && s.Slots[next.Other()].Bootable() && s.Slots[next.Other()].Priority > s.Slots[next].Priority {
			t.Fatalf("picked %s, the lower one of %+v", next, s.Slots)
		}
		if standing := s.Standing(); standing.Slots[0].Bootable() && !standing.Slots[0].Successful {
			t.Fatalf("a trial is left in %+v", standing.Slots)
		}
	})
}

func TestBootedTakesOneTryAndOnlyFromATrial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slot := drawSlot(t)
		var s State
		s.Slots[slot] = drawRecord(t, "slot")
		s.Slots[slot.Other()] = drawRecord(t, "other")
		want := s
		if r := &want.Slots[slot]; !r.Successful && r.Tries > 0 {
			r.Tries--
		}
		if got := s.Booted(slot); got != want {
			t.Fatalf("got %+v, want %+v", got.Slots, want.Slots)
		}
	})
}

func TestCheckRefusesWhatNotEveryLoaderCanHold(t *testing.T) {
	good := Record{Priority: 2, Successful: true}
	for name, s := range map[string]State{
		"nothing":           {},
		"only used-up":      {Slots: [2]Record{{Priority: 2}, {Priority: 1}}},
		"only cleared":      {Slots: [2]Record{{Successful: true}, {Tries: 3}}},
		"priority too high": {Slots: [2]Record{{Priority: 3, Successful: true}, {}}},
		"too many tries":    {Slots: [2]Record{good, {Priority: 1, Tries: 8}}},
		"equal priorities":  {Slots: [2]Record{good, good}},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	for _, s := range []State{
		{Slots: [2]Record{good, {}}},
		{Slots: [2]Record{good, {Priority: 2}}}, // used up: does not compete
		{Slots: [2]Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 7}}},
	} {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, tries := range []uint8{0, MaxTries + 1} {
		if _, err := (State{Slots: [2]Record{good, {}}}).Arm(partitions.B, tries); err == nil {
			t.Errorf("armed with %d tries", tries)
		}
	}
}
