package simulated

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Loader is a boot record and its loader. It implements bootloader.BootLoader.
type Loader struct {
	block bootloader.Block
}

// New returns the loader whose record lies in block.
func New(block bootloader.Block) *Loader { return &Loader{block} }

// Create lays out a record that holds s and the given descriptions, as whoever makes
// the disk does. It is not safe against power cuts: nothing stands before it.
func Create(block bootloader.Block, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
	if err := s.Check(); err != nil {
		return err
	}
	l := New(block)
	for _, slot := range partitions.Slots {
		if d, ok := descriptions[slot]; ok {
			if err := l.write(slotArea(slot), nil, d); err != nil {
				return err
			}
		} else if _, err := block.WriteAt(partitions.AlignedBuffer(areaSize), int64(slotArea(slot))*areaSize); err != nil {
			return fmt.Errorf("boot record: %w", err)
		}
	}
	if err := l.write(areaCopy, nil, s); err != nil {
		return err
	}
	return l.write(areaRecord, nil, s)
}

// Booted returns the boot that PowerOn recorded last.
func (l *Loader) Booted(context.Context) (bootloader.Boot, error) {
	value, err := l.read(areaBoot)
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	var b bootloader.Boot
	if err := json.Unmarshal(value, &b); err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	return b, nil
}

// Load reads the record.
func (l *Loader) Load(context.Context) (bootloader.State, error) {
	s, _, _, err := l.record()
	return s, err
}

// Store writes the second copy of the record, then the first. If the first one is
// damaged, it is first made to say what the second one says: otherwise a power cut in
// this Store, after one in the Store before, could damage both.
func (l *Loader) Store(_ context.Context, s bootloader.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	was, first, raw, err := l.record()
	for _, slot := range partitions.Slots {
		if err != nil || was.Slots[slot].Priority > 0 || !s.Slots[slot].Bootable() {
			continue
		}
		if _, err := l.Description(slot); err != nil {
			return fmt.Errorf("boot record: slot %s was never described: %w", slot, err)
		}
	}
	if err == nil && !first {
		if err := l.repair(raw, was); err != nil {
			return err
		}
	}
	if err := l.write(areaCopy, raw, s); err != nil {
		return err
	}
	return l.write(areaRecord, raw, s)
}

// repair makes the damaged first copy say what the second one says. It wipes it before,
// so that no parts of what it held come together with parts of what is written.
func (l *Loader) repair(raw []byte, s bootloader.State) error {
	if _, err := l.block.WriteAt(partitions.AlignedBuffer(areaSize), areaRecord*areaSize); err != nil {
		return fmt.Errorf("boot record: repair: %w", err)
	}
	if err := l.block.Flush(); err != nil {
		return fmt.Errorf("boot record: repair: %w", err)
	}
	return l.write(areaRecord, raw, s)
}

// Describe records what slot holds.
func (l *Loader) Describe(ctx context.Context, slot partitions.Slot, d bootloader.Description) error {
	s, err := l.Load(ctx)
	if err != nil {
		return err
	}
	if slot > partitions.B || s.Slots[slot].Priority > 0 {
		return fmt.Errorf("describe slot %s: it is not cleared", slot)
	}
	// Nothing is kept of the former description: it told of other bytes.
	return l.write(slotArea(slot), nil, d)
}

// Description returns what Describe recorded of slot.
func (l *Loader) Description(slot partitions.Slot) (bootloader.Description, error) {
	if slot > partitions.B {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: no such slot", slot)
	}
	value, err := l.read(slotArea(slot))
	if err != nil {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	var d bootloader.Description
	if err := json.Unmarshal(value, &d); err != nil {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	return d, nil
}

// record reads the first copy if it is sound, else the second, whose trials no loader
// may start. first says which one; raw is the value itself.
func (l *Loader) record() (s bootloader.State, first bool, raw []byte, err error) {
	raw, err = l.read(areaRecord)
	if err == nil {
		if s, err = decodeState(raw); err == nil {
			return s, true, raw, nil
		}
	}
	raw, err2 := l.read(areaCopy)
	if err2 == nil {
		if s, err2 = decodeState(raw); err2 == nil {
			return s.Standing(), false, raw, nil
		}
	}
	return bootloader.State{}, false, nil, fmt.Errorf("%w; second copy: %w", err, err2)
}

// read returns the value of an area.
func (l *Loader) read(number int) ([]byte, error) {
	b := partitions.AlignedBuffer(areaSize)
	if _, err := l.block.ReadAt(b, int64(number)*areaSize); err != nil && err != io.EOF {
		return nil, fmt.Errorf("boot record: area %d: %w", number, err)
	}
	return decodeArea(number, b)
}

// write durably replaces the value of an area by v, with the fields of old that v does
// not know.
func (l *Loader) write(number int, old []byte, v any) error {
	value, err := merge(old, v)
	if err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	b, err := encodeArea(number, value)
	if err != nil {
		return err
	}
	if _, err := l.block.WriteAt(b, int64(number)*areaSize); err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	if err := l.block.Flush(); err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	return nil
}
