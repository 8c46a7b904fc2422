package sim

import (
	"context"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// Firmware is a boot loader on the machine: the agent's side of a backend, and the
// loader's own code.
type Firmware interface {
	bootloader.BootLoader
	// PowerOn chooses a slot, counts its trial and records the boot under id.
	PowerOn(ctx context.Context, id string, loadable func(partitions.Slot) bool) (bootloader.Boot, error)
	// Peek reads the record and the slots' descriptions without a call of the world:
	// as a reader sees them, or as they would be after a power cut now.
	Peek(durable bool) (bootloader.State, [2]*bootloader.Description, error)
}

// OpenLoader makes a boot loader with the given record, and a description of slot A, on
// a disk of its own.
type OpenLoader func(*World, bootloader.State, bootloader.Description) (Firmware, error)

// simulatedLoader is the backend simulated on a disk whose sectors have 64 bytes, so
// that a record is more than one.
type simulatedLoader struct {
	*simulated.Loader
	disk *Disk
}

// Simulated is an OpenLoader: the real code of the backend simulated.
func Simulated(w *World, s bootloader.State, a bootloader.Description) (Firmware, error) {
	d := w.NewDisk("boot record", simulated.Size, 64, 1)
	if err := simulated.Create(d, s, map[partitions.Slot]bootloader.Description{partitions.A: a}); err != nil {
		return nil, err
	}
	d.settle()
	return &simulatedLoader{simulated.New(d), d}, nil
}

// Peek implements Firmware.
func (l *simulatedLoader) Peek(durable bool) (s bootloader.State, slots [2]*bootloader.Description, err error) {
	b := frozen(l.disk.view)
	if durable {
		b = frozen(l.disk.stable)
	}
	backend := simulated.New(b)
	if s, err = backend.Load(context.Background()); err != nil {
		return s, slots, err
	}
	for _, slot := range partitions.Slots {
		if d, err := backend.Description(slot); err == nil {
			slots[slot] = &d
		}
	}
	return s, slots, nil
}

// frozen is storage that is only read.
type frozen []byte

// ReadAt implements io.ReaderAt.
func (f frozen) ReadAt(b []byte, off int64) (int, error) { return copy(b, f[off:]), nil }

// WriteAt implements io.WriterAt.
func (f frozen) WriteAt([]byte, int64) (int, error) { return 0, ErrReadOnly }

// Flush implements bootloader.Block.
func (f frozen) Flush() error { return ErrReadOnly }

// watched holds the laws against everything that is stored in the boot record.
type watched struct {
	Firmware
	m *Machine
}

// peek returns the record as a reader sees it.
func (l *watched) peek() bootloader.State {
	s, _, err := l.Peek(false)
	if err != nil {
		l.m.Break("law 1: the boot record cannot be read: %v", err)
	}
	return s
}

// durable returns the record as it would be after a power cut that loses the cache.
func (l *watched) durable() bootloader.State {
	s, _, err := l.Peek(true)
	if err != nil {
		l.m.Break("law 1: the boot record would not survive a power cut: %v", err)
	}
	return s
}

// described returns what the loader would tell the kernel of a slot, or nil.
func (l *watched) described(slot partitions.Slot) *bootloader.Description {
	_, d, err := l.Peek(false)
	if err != nil {
		return nil
	}
	return d[slot]
}

// Store implements bootloader.BootLoader.
func (l *watched) Store(ctx context.Context, s bootloader.State) error {
	if !l.m.dead {
		l.check(l.peek(), s)
	}
	return l.Firmware.Store(ctx, s)
}

// check compares the record that is with the one that is to be.
func (l *watched) check(old, next bootloader.State) {
	m := l.m
	if _, ok := next.Next(); !ok {
		m.Break("law 1: a record with which nothing boots: %+v", next)
	}
	running := m.boot.Slot
	for _, slot := range partitions.Slots {
		if !next.Slots[slot].Successful || old.Slots[slot].Successful {
			continue
		}
		switch {
		case slot != running:
			m.Break("law 5: slot %s is committed while slot %s runs", slot, running)
		case m.runs.Behaviour != Healthy || !m.passed:
			m.Break("law 5: %s is committed; it is %s, its probe passed in this boot: %t", m.runs.Manifest.Version, m.runs.Behaviour, m.passed)
		}
	}
	fallback := running.Other()
	if !next.Slots[running].Successful && old.Slots[fallback].Successful && !next.Slots[fallback].Successful {
		m.Break("law 3: fallback slot %s is given up while slot %s is on trial", fallback, running)
	}
	if next.Epoch < old.Epoch {
		m.Break("law 6: the epoch in the boot record falls from %d to %d", old.Epoch, next.Epoch)
	}
}
