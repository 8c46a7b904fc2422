package sim

import (
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
)

// Slots are the partitions of both slots, as disks. It implements agent.Slots.
type Slots struct {
	w       *World
	disks   [2]map[string]*Disk
	running func() partitions.Slot
	writers map[*Disk]int // boot in which somebody has it open for writing
}

// OpenRead implements agent.Slots.
func (s *Slots) OpenRead(slot partitions.Slot, image string) (partitions.OpenDevice, error) {
	d, err := s.open(slot, image)
	if err != nil {
		return nil, err
	}
	return reader{d}, nil
}

// OpenWrite implements agent.Slots.
func (s *Slots) OpenWrite(slot partitions.Slot, image string) (partitions.OpenDevice, error) {
	if slot == s.running() {
		s.w.Break("law 3: the running slot %s was opened for writing", slot)
		return nil, fmt.Errorf("open slot %s for writing: it runs", slot)
	}
	d, err := s.open(slot, image)
	if err != nil {
		return nil, err
	}
	if s.writers[d] > 0 {
		return nil, fmt.Errorf("open slot %s image %s: device or resource busy", slot, image)
	}
	s.writers[d]++
	return &writer{d, s}, nil
}

func (s *Slots) open(slot partitions.Slot, image string) (*Disk, error) {
	if err := s.w.call(op{verb: "open slot", name: slot.String(), file: image}); err != nil {
		return nil, err
	}
	d, ok := s.disks[slot][image]
	if !ok {
		return nil, fmt.Errorf("open slot %s: there is no partition for image %s", slot, image)
	}
	return d, nil
}

func (s *Slots) releaseLock() { clear(s.writers) }
func (s *Slots) crash(Fate)   {}

func (s *Slots) unflushed() int { return 0 }

// reader is a disk opened for reading.
type reader struct{ *Disk }

// WriteAt implements io.WriterAt.
func (r reader) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("write %s: it is open for reading", r.name)
}

// Flush implements partitions.Device.
func (r reader) Flush() error { return nil }

// writer is a disk opened for writing, exclusively.
type writer struct {
	*Disk
	s *Slots
}

// Close implements io.Closer.
func (w *writer) Close() error {
	w.s.writers[w.Disk] = 0
	return nil
}
