package simulated

import (
	"context"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
)

// ErrNothingBoots is in the chain of PowerOn's error when the loader found no slot to
// start.
var ErrNothingBoots = errors.New("nothing boots")

// PowerOn starts the machine: it picks a slot, counts its trial, records the boot under
// id and returns it. loadable says whether the loader finds a kernel in a slot that it
// picked; nil means that it always does.
func (l *Loader) PowerOn(ctx context.Context, id string, loadable func(partitions.Slot) bool) (bootloader.Boot, error) {
	s, first, raw, err := l.Read()
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("power on: %w: %w", ErrNothingBoots, err)
	}
	for try := range partitions.Slots {
		if err := ctx.Err(); err != nil {
			return bootloader.Boot{}, err
		}
		slot, ok := s.Next()
		if ok && !s.Slots[slot].Successful {
			// No trial that is not counted: without the counter, a slot that fails
			// would be started for ever.
			if after := s.Booted(slot); first && l.count(raw, after, slot) {
				s = after
			} else {
				s = s.Standing()
				slot, ok = s.Next()
			}
		}
		if !ok {
			break
		}
		if loadable == nil || loadable(slot) {
			b := bootloader.Boot{Slot: slot, ID: id, Firmware: true, Fallback: try > 0}
			return b, l.WriteArea(areaBoot, nil, b)
		}
		s.Slots[slot] = bootloader.Record{} // in memory only: this boot does without it
	}
	return bootloader.Boot{}, fmt.Errorf("power on: %w: %+v", ErrNothingBoots, s.Slots)
}

// count saves the tries of slot in the first copy of the record and reads them back.
// The rest of the record stays as raw has it.
func (l *Loader) count(raw []byte, after bootloader.State, slot partitions.Slot) bool {
	s, err := record.DecodeState(raw)
	if err != nil {
		return false
	}
	if _, err := l.ReadArea(record.Second); err != nil {
		// The second copy was torn by a power cut. It is made good before the first one is
		// written: another cut there would leave no copy at all.
		if err := l.WriteArea(record.Second, raw, s); err != nil {
			return false
		}
	}
	s.Slots[slot].Tries = after.Slots[slot].Tries
	if err := l.WriteArea(record.First, raw, s); err != nil {
		return false
	}
	back, first, _, err := l.Read()
	return err == nil && first && back.Slots[slot].Tries == s.Slots[slot].Tries
}

// Kexec records that slot was started by the running kernel: neither firmware nor
// loader had a say.
func (l *Loader) Kexec(_ context.Context, slot partitions.Slot, id string) error {
	return l.WriteArea(areaBoot, nil, bootloader.Boot{Slot: slot, ID: id})
}
