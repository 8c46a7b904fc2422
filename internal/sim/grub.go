package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
)

// grubLoader is the backend grub on a disk, and a model of its script: the test
// TestTheScriptDoesWhatTheModelDoes of that package runs the script itself.
type grubLoader struct {
	*grub.Loader
	disk *peekable
	boot bootloader.Boot // what the kernel's command line says
}

// block is one environment block on a disk.
type block struct {
	d  *peekable
	at int64
}

func (b block) ReadAt(p []byte, off int64) (int, error)  { return b.d.ReadAt(p, b.at+off) }
func (b block) WriteAt(p []byte, off int64) (int, error) { return b.d.WriteAt(p, b.at+off) }
func (b block) Flush() error                             { return b.d.Flush() }

// grubSector is what a disk has to write as one for GRUB's environment: the script has no
// checksums.
const grubSector = 512

// Grub is an OpenLoader: the real code of the backend grub.
func Grub(w *World, s bootloader.State, a bootloader.Description) (Firmware, error) {
	d := w.NewDisk("boot record", 4*grub.BlockSize, grubSector, grubSector)
	d.honest = true
	p := &peekable{Disk: d}
	blocks := environments(p)
	if err := grub.Create(blocks, s, map[partitions.Slot]bootloader.Description{partitions.A: a}); err != nil {
		return nil, err
	}
	d.settle()
	return &grubLoader{Loader: grub.New(blocks, grub.Kernel{}), disk: p}, nil
}

// environments are the blocks on a disk.
func environments(d *peekable) grub.Blocks {
	at := func(i int64) bootloader.Block { return block{d, i * grub.BlockSize} }
	return grub.Blocks{Record: at(0), Copy: at(1), Slots: [2]bootloader.Block{at(2), at(3)}}
}

// Booted implements bootloader.BootLoader.
func (l *grubLoader) Booted(context.Context) (bootloader.Boot, error) {
	return l.boot, l.disk.w.call(op{verb: "read", name: "kernel command line"})
}

// Stamp implements Firmware.
func (l *grubLoader) Stamp(durable bool) uint64 { return l.disk.stamp(durable) }

// Rot implements Firmware.
func (l *grubLoader) Rot(copy, at int) {
	was, _, err := l.Peek(true)
	if err != nil || l.disk.unflushed() > 0 {
		return
	}
	spoilt := &grubLoader{disk: &peekable{Disk: &Disk{stable: slices.Clone(l.disk.stable)}}}
	spoilt.Loader = grub.New(environments(spoilt.disk), grub.Kernel{})
	clear(spoilt.disk.stable[copy*grub.BlockSize:][:grub.BlockSize])
	if is, _, err := spoilt.Peek(true); err == nil && is == was {
		// A bit of the mark at the front: GRUB has no checksums over the rest.
		l.disk.Rot(int64(copy*grub.BlockSize + 2 + at%16))
	}
}

// Peek implements Firmware.
func (l *grubLoader) Peek(durable bool) (s bootloader.State, slots [2]*bootloader.Description, err error) {
	defer l.disk.peek(durable)()
	if s, err = l.Load(context.Background()); err != nil {
		return s, slots, err
	}
	for _, slot := range partitions.Slots {
		if d, err := l.Description(slot); err == nil {
			slots[slot] = &d
		}
	}
	return s, slots, nil
}

// PowerOn implements Firmware, as the script does it.
func (l *grubLoader) PowerOn(_ context.Context, id string, loadable func(partitions.Slot) bool) (bootloader.Boot, error) {
	s, counting := l.rate()
	for try := range partitions.Slots {
		slot, ok := s.Next()
		if ok && !s.Slots[slot].Successful {
			s = s.Booted(slot)
			if !counting || !l.count(slot, s.Slots[slot].Tries) {
				s = s.Standing()
				slot, ok = s.Next()
			}
		}
		if !ok {
			break
		}
		if l.env(2+int(slot)).get("describes") == slot.String() && loadable(slot) {
			l.boot = bootloader.Boot{Slot: slot, ID: id, Firmware: true, Fallback: try > 0}
			return l.boot, nil
		}
		s.Slots[slot] = bootloader.Record{}
	}
	return bootloader.Boot{}, fmt.Errorf("nothing to boot: %+v", s.Slots)
}

// rate reads the record as the script does, and says whether trials may be counted.
func (l *grubLoader) rate() (s bootloader.State, counting bool) {
	for i := range 2 {
		if s, whole := l.env(i).record(); whole {
			if i > 0 {
				return s.Standing(), false
			}
			return s, true
		}
	}
	return bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {Priority: 1, Successful: true}}}, false
}

// count does what save_env does to a variable of one digit, and load_env afterwards.
func (l *grubLoader) count(slot partitions.Slot, tries uint8) bool {
	e := l.env(0)
	at := e.find(slot.String() + "_tries")
	if at < 0 {
		return false
	}
	e[at] = '0' + tries
	for off := 0; off < len(e); off += grubSector {
		if _, err := l.disk.WriteAt(e[off:off+grubSector], int64(off)); err != nil {
			return false
		}
	}
	return l.disk.Flush() == nil && l.env(0).get(slot.String()+"_tries") == string(rune('0'+tries))
}

// signature is what GRUB knows an environment block by.
const signature = "# GRUB Environment Block\n"

// environment is a block as GRUB reads it: nothing if it is none.
type environment []byte

func (l *grubLoader) env(i int) environment {
	b := make([]byte, grub.BlockSize)
	if _, err := l.disk.ReadAt(b, int64(i)*grub.BlockSize); err != nil {
		return nil
	}
	if !bytes.HasPrefix(b, []byte(signature)) {
		return nil
	}
	return b
}

// find returns where the value of one of our variables begins, or -1.
func (e environment) find(name string) int {
	name = "\ntwinkeel_" + name + "="
	at := bytes.Index(e, []byte(name))
	if at < 0 {
		return -1
	}
	return at + len(name)
}

// get returns the value of one of our variables, none of which holds a line end.
func (e environment) get(name string) string {
	at := e.find(name)
	if at < 0 {
		return ""
	}
	end := at
	for end < len(e) && e[end] != '\n' {
		end++
	}
	return string(e[at:end])
}

// record reads what the script reads, and says whether it would go by it.
func (e environment) record() (s bootloader.State, whole bool) {
	digit := func(slot partitions.Slot, what string, limit byte) uint8 {
		v := e.get(slot.String() + "_" + what)
		if len(v) != 1 || v[0] < '0' || v[0] > '0'+limit {
			return 0
		}
		return v[0] - '0'
	}
	for _, slot := range partitions.Slots {
		s.Slots[slot] = bootloader.Record{
			Priority:   digit(slot, "priority", bootloader.MaxPriority),
			Tries:      digit(slot, "tries", bootloader.MaxTries),
			Successful: digit(slot, "successful", 1) == 1,
		}
	}
	_, boots := s.Next()
	return s, boots && e.get("begin") != "" && e.get("begin") == e.get("end")
}
