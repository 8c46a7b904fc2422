package sdboot

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// Directory is where the loader looks for its entries. Every change is durable on return;
// a power cut inside it may leave more or less of it, but of Write nothing outside of the
// sectors that it covers.
type Directory interface {
	List() ([]string, error)
	// Read returns the content of a file, at most 16 KiB of it.
	Read(name string) ([]byte, error)
	// Make makes a file that is not there yet.
	Make(name string, content []byte) error
	// Write changes whole sectors of a file, in place.
	Write(name string, p []byte, off int64) error
	Remove(name string) error
}

// Kernels puts the kernel of a slot where the loader reads it.
type Kernels interface {
	// Place durably makes the loader's copy what slot holds. It is called only while
	// no entry leads to that copy.
	Place(context.Context, partitions.Slot) error
	// Cmdline is the command line that the loader's copy brings along.
	Cmdline(partitions.Slot) (string, error)
}

// Loader implements bootloader.BootLoader over boot entries.
type Loader struct {
	entries Directory
	kernels Kernels
	record  *record.Record
	kernel  running.Kernel
	// settled is whether what the entries read as is on the disk, as far as this process knows.
	// What another one wrote and did not sync before it was killed reads like all else, and so
	// does what could not be synced, which is never written any more.
	settled bool
}

// New returns the loader over the given entries; block holds what entries cannot, and
// kernel tells what runs.
func New(entries Directory, block bootloader.Block, kernels Kernels, kernel running.Kernel) *Loader {
	return &Loader{entries: entries, kernels: kernels, record: record.On(block), kernel: kernel}
}

// Create lays out a record that holds s and the given descriptions, as whoever makes the
// disk does. It is not safe against power cuts: nothing stands before it.
func Create(entries Directory, block bootloader.Block, kernels Kernels, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
	if err := record.Create(block, s, descriptions); err != nil {
		return err
	}
	l := New(entries, block, kernels, running.Kernel{})
	for _, slot := range partitions.Slots {
		if s.Slots[slot].Bootable() {
			if err := kernels.Place(context.Background(), slot); err != nil {
				return fmt.Errorf("kernel of slot %s: %w", slot, err)
			}
		}
	}
	return l.setEntries(s)
}

// Booted reads the boot from the running kernel.
func (l *Loader) Booted(context.Context) (bootloader.Boot, error) { return l.kernel.Booted() }

// Load reads what was stored, corrected by what the loader's entries say.
func (l *Loader) Load(context.Context) (bootloader.State, error) {
	s, _, _, err := l.record.Read()
	if err != nil {
		return bootloader.State{}, err
	}
	list, _, err := l.scan()
	if err != nil {
		return bootloader.State{}, err
	}
	return merge(s, list), nil
}

// scan returns the entries of ours that the loader sees, and the sequence numbers that
// are in use, also by files that were half made or half removed when the power failed.
func (l *Loader) scan() (list []entry, used map[int]bool, err error) {
	names, err := l.entries.List()
	if err != nil {
		return nil, nil, fmt.Errorf("boot entries: %w", err)
	}
	used = map[int]bool{}
	for _, name := range names {
		e, ok := parseName(name)
		if !ok {
			continue
		}
		used[e.seq] = true
		content, err := l.entries.Read(name)
		if err != nil {
			return nil, nil, fmt.Errorf("boot entry %s: %w", name, err)
		}
		// The loader passes over an entry whose kernel is not there.
		if _, err := l.kernels.Cmdline(e.slot); err == nil && live(content) {
			list = append(list, e)
		}
	}
	return list, used, nil
}

// Store makes the entries what s says, and then the rest of the record.
func (l *Loader) Store(ctx context.Context, s bootloader.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	for _, slot := range partitions.Slots {
		if !s.Slots[slot].Bootable() {
			continue
		}
		if _, err := l.Description(slot); err != nil {
			return fmt.Errorf("boot record: slot %s was never described: %w", slot, err)
		}
	}
	list, _, err := l.scan()
	if err != nil {
		return err
	}
	v, _ := views(list)
	for _, slot := range partitions.Slots {
		if s.Slots[slot].Bootable() && !v[slot].there {
			if err := l.kernels.Place(ctx, slot); err != nil {
				return fmt.Errorf("kernel of slot %s: %w", slot, err)
			}
		}
	}
	if err := l.setEntries(s); err != nil {
		return err
	}
	return l.record.Store(ctx, s)
}

// setEntries adds the entries that s needs, the first one first, and then removes all
// others of ours. At every moment there is one on the disk that s, or what was before, would
// start: nothing is kept that may not be there.
func (l *Loader) setEntries(s bootloader.State) (err error) {
	defer func() { l.settled = err == nil }()
	list, used, err := l.scan()
	if err != nil {
		return err
	}
	first, ok := s.Next()
	if !ok {
		return fmt.Errorf("boot entries: nothing boots")
	}
	want := [2][]byte{}
	for _, slot := range partitions.Slots {
		if want[slot], err = l.content(s.Slots[slot], slot); err != nil {
			return err
		}
	}
	keep, add, err := plan(s, first, list, used, func(e entry) bool {
		got, err := l.entries.Read(e.name())
		return l.settled && err == nil && bytes.Equal(got, want[e.slot])
	})
	if err != nil {
		return err
	}
	for _, e := range add {
		if err := l.add(e.name(), want[e.slot]); err != nil {
			return fmt.Errorf("boot entry %s: %w", e.name(), err)
		}
		keep = append(keep, e)
	}
	return l.prune(keep)
}

// content returns what the entry of slot has to hold; nil if it gets none.
func (l *Loader) content(r bootloader.Record, slot partitions.Slot) ([]byte, error) {
	if !r.Bootable() {
		return nil, nil
	}
	d, err := l.Description(slot)
	if err != nil {
		return nil, err
	}
	cmdline, err := l.kernels.Cmdline(slot)
	if err != nil {
		return nil, fmt.Errorf("kernel of slot %s: %w", slot, err)
	}
	return render(slot, d, !r.Successful, cmdline)
}

// plan says which of the entries in list stay and which are added, in that order, so that
// the loader does what s says. same reports whether an entry's content is right.
func plan(s bootloader.State, first partitions.Slot, list []entry, used map[int]bool, same func(entry) bool) (keep, add []entry, err error) {
	v, _ := views(list)
	highest := 0
	for seq := range used {
		highest = max(highest, seq)
	}
	right := func(slot partitions.Slot) bool {
		r, e := s.Slots[slot], v[slot]
		return e.bootable() && e.counted == !r.Successful && (!e.counted || e.left == int(r.Tries)) && same(e.entry)
	}
	fresh := func(slot partitions.Slot, seq int) entry {
		r := s.Slots[slot]
		e := entry{seq: seq, slot: slot, counted: !r.Successful}
		if e.counted {
			e.left = int(r.Tries)
		}
		return e
	}
	top, below := v[first].entry, first.Other()
	two, belowStays := s.Slots[below].Bootable(), right(below)
	seq := top.seq - 1
	for seq > 0 && used[seq] {
		seq--
	}
	if right(first) && (!two || belowStays && v[below].seq < top.seq || !belowStays && seq > 0) {
		keep = append(keep, top)
	} else {
		if top = fresh(first, (highest/seqStep+1)*seqStep); top.seq > maxSeq {
			return nil, nil, fmt.Errorf("boot entries: sequence number %d is the last one", highest)
		}
		seq = top.seq - 1
		add = append(add, top)
	}
	switch {
	case !two:
	case belowStays:
		keep = append(keep, v[below].entry)
	default:
		add = append(add, fresh(below, seq))
	}
	return keep, add, nil
}

// add makes an entry. It comes into being with the write of its last sector.
func (l *Loader) add(name string, content []byte) error {
	if err := l.entries.Make(name, bytes.Repeat([]byte("\n"), len(content))); err != nil {
		return err
	}
	last := len(content) - sector
	if last > 0 {
		if err := l.entries.Write(name, content[:last], 0); err != nil {
			return err
		}
	}
	return l.entries.Write(name, content[last:], int64(last))
}

// prune removes all files of ours but those that are kept. An entry is first made to be
// none, sector by sector in place, the last one first: names that a file system brings
// back lead to nothing then.
func (l *Loader) prune(keep []entry) error {
	names, err := l.entries.List()
	if err != nil {
		return fmt.Errorf("boot entries: %w", err)
	}
	kept := map[string]bool{}
	for _, e := range keep {
		kept[e.name()] = true
	}
	for _, name := range names {
		if kept[name] || !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, ".conf") {
			continue
		}
		content, err := l.entries.Read(name)
		if err != nil {
			return fmt.Errorf("boot entry %s: %w", name, err)
		}
		for off := (len(content) - 1) / sector * sector; (live(content) || !l.settled) && off >= 0; off -= sector {
			blank := bytes.Repeat([]byte("\n"), min(sector, len(content)-off))
			if err := l.entries.Write(name, blank, int64(off)); err != nil {
				return fmt.Errorf("boot entry %s: %w", name, err)
			}
			copy(content[off:], blank)
		}
		if err := l.entries.Remove(name); err != nil {
			return fmt.Errorf("boot entry %s: %w", name, err)
		}
	}
	return nil
}

// Describe records what slot holds, for its entry.
func (l *Loader) Describe(ctx context.Context, slot partitions.Slot, d bootloader.Description) error {
	s, err := l.Load(ctx)
	if err != nil {
		return err
	}
	if slot > partitions.B || s.Slots[slot].Priority > 0 {
		return fmt.Errorf("describe slot %s: it is not cleared", slot)
	}
	return l.record.SetDescription(slot, d)
}

// Description returns what Describe recorded of slot.
func (l *Loader) Description(slot partitions.Slot) (bootloader.Description, error) {
	return l.record.Description(slot)
}
