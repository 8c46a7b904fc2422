package bootloadertest

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// half is the content of a slot that is being written.
const half = -1

// machine is a host in miniature: an agent without a journal, which does whatever the
// rules of package bootloader allow it to do, over a disk whose power fails.
type machine struct {
	b       Backend
	d       *Disk
	content [2]int // release in each slot, or half
	running partitions.Slot
	last    int // newest release made
}

// life lets random agents act and random cuts happen.
func (b Backend) life(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := NewDisk(b.Blocks)
		if err := b.Create(d, standing(), map[partitions.Slot]bootloader.Description{partitions.A: description(1)}); err != nil {
			t.Fatal(err)
		}
		d.flush()
		m := &machine{b: b, d: d, content: [2]int{1, half}, last: 1}
		m.boot(t)
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			m.step(t)
		}
	})
}

// step does one thing, or is cut while doing it.
func (m *machine) step(t *rapid.T) {
	if rapid.Bool().Draw(t, "cut") {
		m.d.left = rapid.IntRange(0, 14).Draw(t, "effects until the cut")
	}
	err := m.act(t, rapid.SampledFrom([]string{"install", "install", "arm", "commit", "commit", "revert", "reboot"}).Draw(t, "action"))
	if err != nil && m.d.left != 0 {
		t.Fatal(err)
	}
	if m.d.left == 0 {
		crashes := m.d.crashes()
		m.d = crashes[rapid.IntRange(0, len(crashes)-1).Draw(t, "what the cut left")]
		m.boot(t)
	}
	m.d.left = -1
}

// act carries out one action of an agent, as far as the record allows it.
func (m *machine) act(t *rapid.T, action string) error {
	ctx := context.Background()
	l := m.b.Open(m.d)
	s, err := l.Load(ctx)
	if err != nil {
		return err
	}
	me, other := m.running, m.running.Other()
	committed := s.Slots[me].Bootable() && s.Slots[me].Successful
	switch action {
	case "install":
		if !committed {
			return nil
		}
		if s.Slots[other] != (bootloader.Record{}) {
			if s, err = s.Clear(other); err != nil {
				return err
			}
			if err := l.Store(ctx, s); err != nil {
				return err
			}
		}
		m.last++
		m.content[other] = half // from here on: the description is of the new bytes
		if err := l.Describe(ctx, other, description(m.last)); err != nil {
			return err
		}
		if rapid.IntRange(0, 3).Draw(t, "written whole") == 0 {
			return nil
		}
		m.content[other] = m.last
		if s, err = s.Arm(other, 2); err != nil {
			return err
		}
		if err := l.Store(ctx, s); err != nil {
			return err
		}
		m.boot(t)
	case "arm": // by hand, or again
		if !committed || m.content[other] == half {
			return nil
		}
		if s, err = s.Arm(other, uint8(rapid.IntRange(1, 3).Draw(t, "tries"))); err != nil {
			return err
		}
		return l.Store(ctx, s)
	case "commit":
		return l.Store(ctx, s.Commit(me))
	case "revert":
		if committed {
			return nil
		}
		if s, err = s.Revert(me); err != nil {
			return err
		}
		if err := l.Store(ctx, s); err != nil {
			return err
		}
		m.boot(t)
	case "reboot":
		m.boot(t)
	}
	return nil
}

// boot starts the machine and checks what runs then.
func (m *machine) boot(t *rapid.T) {
	m.d.left = -1
	m.d.flush()
	slot, err := m.b.PowerOn(m.d)
	if err != nil {
		t.Fatalf("power on: %v", err)
	}
	m.running = slot
	if m.content[slot] == half {
		t.Fatalf("slot %s was started half-written", slot)
	}
	d, err := m.b.Open(m.d).Description(slot)
	if err != nil || d.Version != description(m.content[slot]).Version {
		t.Fatalf("slot %s holds release %d and is described as %+v, %v", slot, m.content[slot], d, err)
	}
}
