package record

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Record is a boot record in plain storage.
type Record struct {
	block bootloader.Block

	mu      sync.Mutex
	buf     []byte         // that areas are read into
	out     []byte         // that areas are written from
	known   map[int]*known // areas by number, as they were when they were read or written last
	settled bool           // all that was written to block is durable
}

// known is an area that was sound. Whoever reads it again mostly finds the same bytes,
// and they need not be hashed and parsed again.
type known struct {
	bytes   []byte
	value   []byte // never changed
	decoded any    // what value was parsed to, by Value
}

// On returns the record that lies in block.
func On(block bootloader.Block) *Record { return &Record{block: block, known: map[int]*known{}} }

// Create lays out a record that holds s and the given descriptions, as whoever makes
// the disk does. It is not safe against power cuts: nothing stands before it.
func Create(block bootloader.Block, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
	if err := s.Check(); err != nil {
		return err
	}
	r := On(block)
	for _, slot := range partitions.Slots {
		if d, ok := descriptions[slot]; ok {
			if err := r.WriteArea(slotArea(slot), nil, d); err != nil {
				return err
			}
		} else if _, err := block.WriteAt(partitions.AlignedBuffer(AreaSize), int64(slotArea(slot))*AreaSize); err != nil {
			return fmt.Errorf("boot record: %w", err)
		}
	}
	if err := r.WriteArea(Second, nil, s); err != nil {
		return err
	}
	return r.WriteArea(First, nil, s)
}

// Load reads the record.
func (r *Record) Load(context.Context) (bootloader.State, error) {
	s, _, _, err := r.Read()
	return s, err
}

// Store writes the second copy of the record, then the first. If the first one is
// damaged, it is first made to say what the second one says: otherwise a power cut in
// this Store, after one in the Store before, could damage both.
func (r *Record) Store(_ context.Context, s bootloader.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return fmt.Errorf("boot record: %w", err)
	}
	was, first, raw, err := r.Read()
	for _, slot := range partitions.Slots {
		if err != nil || was.Slots[slot].Priority > 0 || !s.Slots[slot].Bootable() {
			continue
		}
		if _, err := r.Description(slot); err != nil {
			return fmt.Errorf("boot record: slot %s was never described: %w", slot, err)
		}
	}
	if err == nil && !first {
		if err := r.repair(raw, was); err != nil {
			return err
		}
	}
	value := raw
	if err != nil || !first || s != was {
		if value, err = Merge(raw, s); err != nil {
			return fmt.Errorf("boot record: %w", err)
		}
	}
	if err := r.write(Second, value, s); err != nil {
		return err
	}
	return r.write(First, value, s)
}

// settle makes durable what a process wrote that was killed before it was, or could not
// flush. Both copies would be on their way to the medium at once otherwise.
func (r *Record) settle() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled {
		return nil
	}
	return r.flush()
}

// flush makes all writes durable; mu is held.
func (r *Record) flush() error {
	err := r.block.Flush()
	r.settled = err == nil
	return err
}

// repair makes the damaged first copy say what the second one says. It wipes it before,
// so that no parts of what it held come together with parts of what is written.
func (r *Record) repair(raw []byte, s bootloader.State) error {
	if err := r.wipe(First); err != nil {
		return fmt.Errorf("boot record: repair: %w", err)
	}
	return r.WriteArea(First, raw, s)
}

// wipe durably writes zeros to an area.
func (r *Record) wipe(number int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = false
	if _, err := r.block.WriteAt(partitions.AlignedBuffer(AreaSize), int64(number)*AreaSize); err != nil {
		return err
	}
	return r.flush()
}

// Describe records what slot holds.
func (r *Record) Describe(ctx context.Context, slot partitions.Slot, d bootloader.Description) error {
	s, err := r.Load(ctx)
	if err != nil {
		return err
	}
	if slot > partitions.B || s.Slots[slot].Priority > 0 {
		return fmt.Errorf("describe slot %s: it is not cleared", slot)
	}
	return r.SetDescription(slot, d)
}

// SetDescription is Describe for who has made sure that slot is cleared. Nothing is kept
// of the former description: it told of other bytes.
func (r *Record) SetDescription(slot partitions.Slot, d bootloader.Description) error {
	return r.WriteArea(slotArea(slot), nil, d)
}

// Description returns what Describe recorded of slot.
func (r *Record) Description(slot partitions.Slot) (bootloader.Description, error) {
	if slot > partitions.B {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: no such slot", slot)
	}
	d, _, err := Value[bootloader.Description](r, slotArea(slot))
	if err != nil {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	d.Images = maps.Clone(d.Images)
	return d, nil
}

// Read reads the first copy if it is sound, else the second, whose trials no loader
// may start. first says which one; raw is the value itself.
func (r *Record) Read() (s bootloader.State, first bool, raw []byte, err error) {
	if s, raw, err = Value[bootloader.State](r, First); err == nil {
		return s, true, raw, nil
	}
	s, raw, err2 := Value[bootloader.State](r, Second)
	if err2 == nil {
		return s.Standing(), false, raw, nil
	}
	return bootloader.State{}, false, nil, fmt.Errorf("%w; second copy: %w", err, err2)
}

// ReadArea returns the value of an area, which is not to be changed.
func (r *Record) ReadArea(number int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.area(number)
	if err != nil {
		return nil, err
	}
	return k.value, nil
}

// Value reads the value of an area as JSON of a T, whose fields are not to be changed.
func Value[T any](r *Record, number int) (v T, raw []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, err := r.area(number)
	if err != nil {
		return v, nil, err
	}
	v, done := k.decoded.(T)
	if !done {
		if err := json.Unmarshal(k.value, &v); err != nil {
			return *new(T), nil, fmt.Errorf("boot record: area %d: %w", number, err)
		}
		k.decoded = v
	}
	return v, k.value, nil
}

// area reads an area; mu is held.
func (r *Record) area(number int) (*known, error) {
	if r.buf == nil {
		r.buf = partitions.AlignedBuffer(AreaSize)
	}
	if n, err := bootloader.ReadBlock(r.block, r.buf, int64(number)*AreaSize); err == io.EOF {
		clear(r.buf[n:])
	} else if err != nil {
		return nil, fmt.Errorf("boot record: area %d: %w", number, err)
	}
	if k := r.known[number]; k != nil && bytes.Equal(k.bytes, r.buf) {
		return k, nil
	}
	value, err := DecodeArea(number, r.buf)
	if err != nil {
		return nil, err
	}
	k := &known{bytes: bytes.Clone(r.buf), value: value}
	r.known[number] = k
	return k, nil
}

// WriteArea durably replaces the value of an area by v, with the fields of old that v does
// not know.
func (r *Record) WriteArea(number int, old []byte, v any) error {
	value, err := Merge(old, v)
	if err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	var decoded any
	if _, plain := inOrder(v); plain {
		decoded = v
	}
	return r.write(number, value, decoded)
}

// write durably replaces the value of an area. decoded is what value would be parsed to, or
// nil; it counts only where these very bytes are read again.
func (r *Record) write(number int, value []byte, decoded any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out == nil {
		r.out = partitions.AlignedBuffer(AreaSize)
	}
	if err := encodeArea(r.out, number, value); err != nil {
		return err
	}
	r.settled = false
	if _, err := r.block.WriteAt(r.out, int64(number)*AreaSize); err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	if err := r.flush(); err != nil {
		return fmt.Errorf("boot record: area %d: %w", number, err)
	}
	r.known[number] = &known{bytes: bytes.Clone(r.out), value: value, decoded: decoded}
	return nil
}
