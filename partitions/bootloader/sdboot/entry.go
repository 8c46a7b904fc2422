package sdboot

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// prefix begins the name of every entry that is ours.
const prefix = "twinkeel-"

// maxSeq is the largest sequence number that a name can hold.
const maxSeq = 99999999

// seqStep leaves room for an entry below each, which must not be the first.
const seqStep = 10

// nameForm is the name of an entry of ours. The loader itself understands the part from +
// on: trials left, trials done.
var nameForm = regexp.MustCompile(`^twinkeel-([0-9]{8})-([ab])(?:\+([0-9]{1,2})(?:-([0-9]{1,2}))?)?\.conf$`)

// entry is what the name of a boot entry says.
type entry struct {
	seq     int
	slot    partitions.Slot
	counted bool // on trial
	left    int  // trials, if counted
	done    int
}

func (e entry) name() string {
	s := fmt.Sprintf("%s%08d-%s", prefix, e.seq, e.slot)
	if e.counted {
		s += "+" + strconv.Itoa(e.left)
		if e.done > 0 {
			s += "-" + strconv.Itoa(e.done)
		}
	}
	return s + ".conf"
}

func parseName(name string) (entry, bool) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return entry{}, false
	}
	number := func(s string) int { // of at most eight digits
		n, _ := strconv.Atoi(s)
		return n
	}
	e := entry{seq: number(m[1]), counted: m[3] != "", left: number(m[3]), done: number(m[4])}
	if m[2] == "b" {
		e.slot = partitions.B
	}
	return e, true
}

// bad reports whether the loader takes the entry only if there is no other.
func (e entry) bad() bool { return e.counted && e.left == 0 }

// order sorts entries as the loader does, the one that it starts first: those whose
// trials are used up last; then, all sort keys being equal, by name, the greatest first.
func order(a, b entry) int {
	rank := func(e entry) int {
		if e.bad() {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), -cmp.Compare(a.seq, b.seq), -cmp.Compare(a.slot, b.slot), -cmp.Compare(a.left, b.left))
}

// sector is the unit in which a disk writes.
const sector = 512

// maxEntry bounds an entry, in bytes.
const maxEntry = 16 << 10

// kernelKey begins the line without which the loader ignores an entry.
const kernelKey = "linux "

// render returns the content of an entry. It is whole sectors, and the line that makes it
// an entry is the end of the last one: whatever else of a new entry reached the disk, it
// counts for nothing before that sector has.
func render(slot partitions.Slot, d bootloader.Description, trial bool, cmdline string) ([]byte, error) {
	salt, err := d.Salt.MarshalText()
	if err != nil {
		return nil, err
	}
	t := 0
	if trial {
		t = 1
	}
	body := fmt.Sprintf("title twinkeel %s (slot %s)\nsort-key twinkeel\noptions twinkeel.slot=%s twinkeel.version=%s twinkeel.roothash=%s twinkeel.salt=%s twinkeel.hashoffset=%d twinkeel.trial=%d panic=1 %s\n",
		d.Version, slot, slot, d.Version, d.Root, salt, d.HashOffset, t, cmdline)
	last := kernelKey + kernelPath(slot) + "\n"
	b := bytes.Repeat([]byte("\n"), (len(body)+len(last)+sector-1)/sector*sector)
	if len(b) > maxEntry {
		return nil, fmt.Errorf("boot entry of slot %s: got %d bytes, want at most %d: the kernel's command line is too long", slot, len(b), maxEntry)
	}
	copy(b, body)
	copy(b[len(b)-len(last):], last)
	return b, nil
}

// kernelPath is where the loader finds the kernel of slot.
func kernelPath(slot partitions.Slot) string { return "/" + dirName + "/" + kernelFile(slot) }

// dirName is our directory beside the loader's.
const dirName = "twinkeel"

func kernelFile(slot partitions.Slot) string { return slot.String() + ".efi" }

// live reports whether the loader takes a file of this content for an entry.
func live(content []byte) bool {
	return bytes.HasPrefix(content, []byte(kernelKey)) || bytes.Contains(content, []byte("\n"+kernelKey))
}

// view is what the loader knows of a slot.
type view struct {
	entry
	there bool
}

// bootable reports whether the loader would start the slot by itself.
func (v view) bootable() bool { return v.there && !v.bad() }

// views returns for each slot the entry of it that the loader prefers, and the slot that
// it prefers.
func views(list []entry) (v [2]view, first partitions.Slot) {
	sorted := slices.SortedFunc(slices.Values(list), order)
	for i, e := range sorted {
		if i == 0 {
			first = e.slot
		}
		if !v[e.slot].there {
			v[e.slot] = view{e, true}
		}
	}
	return v, first
}

// merge returns s, which is what was stored, as far as the loader's entries agree, and
// what they say where they do not.
func merge(s bootloader.State, list []entry) bootloader.State {
	v, first := views(list)
	for i := range s.Slots {
		r, tries := &s.Slots[i], uint8(min(v[i].left, bootloader.MaxTries))
		onTrial := r.Priority > 0 && !r.Successful
		switch {
		case v[i].bootable() && v[i].counted && onTrial, v[i].there && v[i].bad() && onTrial:
			r.Tries = tries
		case v[i].bootable() && v[i].counted:
			*r = bootloader.Record{Priority: 1, Tries: tries}
		case v[i].bootable() && !(r.Priority > 0 && r.Successful):
			*r = bootloader.Record{Priority: 1, Successful: true}
		case !v[i].bootable() && r.Bootable():
			*r = bootloader.Record{}
		}
	}
	a, b := s.Slots[partitions.A], s.Slots[partitions.B]
	if a.Bootable() && b.Bootable() {
		if next, _ := s.Next(); next != first || a.Priority == b.Priority {
			s.Slots[first].Priority, s.Slots[first.Other()].Priority = 2, 1
		}
	}
	return s
}
