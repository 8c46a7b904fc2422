package grub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// Blocks are the four environment blocks, each of BlockSize bytes.
type Blocks struct {
	Record bootloader.Block    // grubenv
	Copy   bootloader.Block    // grubenv2
	Slots  [2]bootloader.Block // slota, slotb
}

// Loader implements bootloader.BootLoader over environment blocks.
type Loader struct {
	b      Blocks
	kernel Kernel

	// The copies of the record and the descriptions as they were when they were read last,
	// and what they say. Whoever reads them again mostly finds the same bytes.
	mu     sync.Mutex
	buf    [2][]byte
	known  [2][]byte
	says   record
	err    error
	slots  [2][]byte
	stands [2]bootloader.Description

	settled atomic.Bool // all that was written to the copies of the record is durable
}

// Kernel is where the running kernel says how it was started.
type Kernel = running.Kernel

// Running is the kernel of this machine.
func Running() Kernel { return running.Here() }

// Booted reads the boot from the running kernel.
func (l *Loader) Booted(context.Context) (bootloader.Boot, error) { return l.kernel.Booted() }

// New returns the loader over the given blocks; kernel tells it what runs.
func New(b Blocks, kernel Kernel) *Loader { return &Loader{b: b, kernel: kernel} }

// Create writes a record that holds s, and the given descriptions, into the blocks, as
// whoever makes the disk does. Blocks that already hold an environment keep what is not
// ours; others become one. It is not safe against power cuts: nothing stands before it.
func Create(b Blocks, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
	if err := s.Check(); err != nil {
		return err
	}
	for _, slot := range partitions.Slots {
		var vars []Variable
		if d, ok := descriptions[slot]; ok {
			var err error
			if vars, err = describe(slot, d); err != nil {
				return err
			}
		}
		if err := change(b.Slots[slot], nil, vars, isOurs); err != nil {
			return fmt.Errorf("describe slot %s: %w", slot, err)
		}
	}
	for _, block := range []bootloader.Block{b.Copy, b.Record} {
		if err := change(block, nil, variables(s, 1), isRecord); err != nil {
			return fmt.Errorf("boot record: %w", err)
		}
	}
	return nil
}

// isOurs holds for every variable of this package, of whatever version. Of a description
// nothing is kept: it told of other bytes.
func isOurs(name string) bool { return strings.HasPrefix(name, prefix) }

// isRecord holds for the variables of the record that this version knows. Those of a
// newer one are kept.
func isRecord(name string) bool {
	return strings.HasPrefix(name, prefix) && slices.Contains(recordVars, name)
}

// Load reads the record as GRUB would act on it.
func (l *Loader) Load(context.Context) (bootloader.State, error) {
	r, err := l.record()
	if err != nil {
		return bootloader.State{}, err
	}
	return r.state, nil
}

// record is what is stored.
type record struct {
	state bootloader.State
	env   *Env // the block that counts; never changed
	first bool // it is the first copy
	sound bool // the first copy needs no repair
}

// record reads the first copy if GRUB would go by it, else the second, whose trials GRUB
// does not start. The mirrored values come from either that has them whole.
func (l *Loader) record() (record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, errFirst := readInto(&l.buf[0], l.b.Record)
	rawCopy, errSecond := readInto(&l.buf[1], l.b.Copy)
	if errFirst != nil || errSecond != nil {
		return judge(raw, errFirst, rawCopy, errSecond)
	}
	if !bytes.Equal(raw, l.known[0]) || !bytes.Equal(rawCopy, l.known[1]) {
		l.known = [2][]byte{bytes.Clone(raw), bytes.Clone(rawCopy)}
		l.says, l.err = judge(raw, nil, rawCopy, nil)
	}
	return l.says, l.err
}

// judge is record for two copies, each read or not.
func judge(raw []byte, errFirst error, rawCopy []byte, errSecond error) (record, error) {
	var first, second *Env
	if errFirst == nil {
		first, errFirst = ParseEnv(raw)
	}
	if errSecond == nil {
		second, errSecond = ParseEnv(rawCopy)
	}
	r := record{}
	switch {
	case errFirst == nil && whole(first):
		r = record{state: bootloader.State{Slots: slotRecords(first)}, env: first, first: true, sound: true}
	case errSecond == nil && whole(second):
		r = record{state: bootloader.State{Slots: slotRecords(second)}.Standing(), env: second}
	case errFirst != nil || errSecond != nil:
		return r, fmt.Errorf("boot record: no copy is whole: %w", errors.Join(errFirst, errSecond))
	default:
		return r, errors.New("boot record: no copy is whole: variables are missing")
	}
	err := mirror(r.env, &r.state)
	if err != nil && r.first && errSecond == nil {
		r.sound = false
		err = mirror(second, &r.state)
	}
	return r, err
}

// Store writes the second copy of the record, then the first. If the first one is
// damaged, it is first made to say what the second one says: otherwise a power cut in
// this Store, after one in the Store before, could damage both.
func (l *Loader) Store(_ context.Context, s bootloader.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	if err := l.settle(); err != nil {
		return fmt.Errorf("boot record: %w", err)
	}
	was, err := l.record()
	for _, slot := range partitions.Slots {
		if err != nil || was.state.Slots[slot].Priority > 0 || !s.Slots[slot].Bootable() {
			continue
		}
		if _, err := l.Description(slot); err != nil {
			return fmt.Errorf("boot record: slot %s was never described: %w", slot, err)
		}
	}
	l.settled.Store(false)
	seq := sequence(was.env)
	if err == nil && !was.sound {
		if err := l.repair(was, seq); err != nil {
			return fmt.Errorf("boot record: repair: %w", err)
		}
	}
	vars := variables(s, seq+1)
	for _, block := range []bootloader.Block{l.b.Copy, l.b.Record} {
		if err := change(block, was.env, vars, isRecord); err != nil {
			return fmt.Errorf("boot record: %w", err)
		}
	}
	l.settled.Store(true)
	return nil
}

// settle makes durable what a process wrote that was killed before it was, or could not
// flush. Both copies would be on their way to the medium at once otherwise.
func (l *Loader) settle() error {
	if l.settled.Load() {
		return nil
	}
	return errors.Join(l.b.Record.Flush(), l.b.Copy.Flush())
}

// repair makes the damaged first copy say what was read. If GRUB would not go by it, it is
// wiped before, so that no parts of what it held come together with parts of what is
// written; if GRUB would, only the mirrored values change.
func (l *Loader) repair(r record, seq uint32) error {
	if !r.first {
		if _, err := l.b.Record.WriteAt(partitions.AlignedBuffer(BlockSize), 0); err != nil {
			return err
		}
		if err := l.b.Record.Flush(); err != nil {
			return err
		}
	}
	return change(l.b.Record, r.env, variables(r.state, seq), isRecord)
}

// sequence returns the number of the record in e.
func sequence(e *Env) uint32 {
	if e == nil {
		return 0
	}
	v, _ := e.Get(varBegin)
	n, err := strconv.ParseUint(v, 16, 32)
	if err != nil {
		return 0 // any number that is not the one before will do
	}
	return uint32(n)
}

// Describe records what slot holds, for GRUB to put on the kernel's command line.
func (l *Loader) Describe(ctx context.Context, slot partitions.Slot, d bootloader.Description) error {
	s, err := l.Load(ctx)
	if err != nil {
		return err
	}
	if slot > partitions.B || s.Slots[slot].Priority > 0 {
		return fmt.Errorf("describe slot %s: it is not cleared", slot)
	}
	vars, err := describe(slot, d)
	if err != nil {
		return err
	}
	if err := change(l.b.Slots[slot], nil, vars, isOurs); err != nil {
		return fmt.Errorf("describe slot %s: %w", slot, err)
	}
	return nil
}

// Description returns what Describe recorded of slot.
func (l *Loader) Description(slot partitions.Slot) (bootloader.Description, error) {
	if slot > partitions.B {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: no such slot", slot)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := readInto(&l.buf[0], l.b.Slots[slot])
	if err != nil {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	if !bytes.Equal(b, l.slots[slot]) {
		e, err := ParseEnv(b)
		if err != nil {
			return bootloader.Description{}, fmt.Errorf("description of slot %s: %w", slot, err)
		}
		d, err := described(slot, e)
		if err != nil {
			return d, err
		}
		l.slots[slot], l.stands[slot] = bytes.Clone(b), d
	}
	d := l.stands[slot]
	d.Images = maps.Clone(d.Images)
	return d, nil
}

// readInto reads one block into memory that is made when there is none.
func readInto(buf *[]byte, block bootloader.Block) ([]byte, error) {
	if *buf == nil {
		*buf = partitions.AlignedBuffer(BlockSize)
	}
	if _, err := bootloader.ReadBlock(block, *buf, 0); err != nil {
		return nil, err
	}
	return *buf, nil
}

func readRaw(block bootloader.Block) ([]byte, error) { return readInto(new([]byte), block) }

// change durably puts vars at the front of a block. What else is in it comes from e, or,
// if e is nil, from the block itself. Only the sectors that change are written.
func change(block bootloader.Block, e *Env, vars []Variable, mine func(string) bool) error {
	was, err := readRaw(block)
	if err != nil {
		return err
	}
	if e == nil {
		if e, err = ParseEnv(was); err != nil {
			e = &Env{} // never was one, or is damaged: begun anew
		}
	}
	e = &Env{entries: e.entries}
	if err := e.SetFirst(vars, mine); err != nil {
		return err
	}
	encoded, err := e.Encode()
	if err != nil {
		return err
	}
	b, same := was, bytes.Equal(encoded[sector:], was[sector:])
	copy(b, encoded)
	if same {
		b = b[:sector]
	}
	if _, err := block.WriteAt(b, 0); err != nil {
		return err
	}
	return block.Flush()
}
