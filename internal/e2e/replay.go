package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/twinkeel/twinkeel/internal/readstate"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// cutPoint is a state that a power cut could have left of a recorded update: the first n
// effects, of which those behind the last flush are all there or, with chance, lost,
// kept or torn.
type cutPoint struct {
	n      int
	chance bool
}

// maxParts is into how many cases the states of the write log are divided, unless there are
// fewer states.
const maxParts = 8

// writeLog returns the cases that boot what cuts would leave of the recorded update:
// every prefix, or a sample, and as many with chance as are asked for.
func (e *engine) writeLog() (list []scenario) {
	if e.prefixes == 0 {
		return nil
	}
	parts := min(maxParts, e.prefixes+e.torn)
	for part := range parts {
		list = append(list, scenario{
			name: fmt.Sprintf("write log of an update, part %d of %d", part+1, parts), sample: true, recorded: true, releases: []string{"2.0"},
			tell: func(e *engine, h *host, random *rand.Rand) error { return e.replay(h, part, parts, random) },
		})
	}
	return list
}

// record updates a machine from its first boot to the commit, and keeps what was written to its disk.
func (e *engine) record(l loader) error {
	h, err := e.newHost("recorded-"+l.id(), l)
	if err != nil {
		return err
	}
	defer h.off()
	h.c.WriteLog = filepath.Join(h.dir, "writes")
	if err := commits(e, h, nil); err != nil {
		return err
	}
	if err := h.shutDown(); err != nil {
		return err
	}
	if e.keptAfter, err = h.keptBoots(); err != nil {
		return err
	}
	e.effects, err = vm.ReadLog(h.c.WriteLog)
	return err
}

// points returns the states to look at; prefixes that end with nothing but a flush leave the
// same disk as the one before, and are not looked at again. With fewer prefixes asked for than there are, those
// that change something else than a slot's content come first, evenly spread.
func (e *engine) points() (list []cutPoint) {
	var other, slot []int
	for n, f := range e.effects {
		if len(f.Data) == 0 && n > 0 {
			continue
		}
		if f.At >= bootAt && f.At < dataAt {
			slot = append(slot, n+1)
		} else {
			other = append(other, n+1)
		}
	}
	take := func(from []int, n int, chance bool) {
		n = min(n, len(from))
		for i := range n {
			list = append(list, cutPoint{from[(2*i+1)*len(from)/(2*n)], chance}) // the middle of each part
		}
	}
	take(other, e.prefixes, false)
	take(slot, e.prefixes-min(e.prefixes, len(other)), false)
	slices.SortFunc(list, func(a, b cutPoint) int { return cmp.Compare(a.n, b.n) })
	take(other, e.torn, true)
	return list
}

// Of states that need not be booted every so many is, all the same; and every so many goes on to
// the new release at rest.
const (
	bootEvery  = 20
	arriveOnce = 40
)

// replayed counts states of the write log.
type replayed struct {
	prefixes, torn           int
	booted, alike            int
	twice                    int // of those that are alike, and were booted all the same
	old, trial, new, arrived int // of those that were booted
	states                   int // of the agent, that were read
	peeked                   int // in which something read the slot that could not boot
}

func (r *replayed) add(s replayed) {
	for _, c := range []struct {
		sum *int
		n   int
	}{
		{&r.prefixes, s.prefixes}, {&r.torn, s.torn}, {&r.booted, s.booted}, {&r.alike, s.alike}, {&r.twice, s.twice},
		{&r.old, s.old}, {&r.trial, s.trial}, {&r.new, s.new}, {&r.arrived, s.arrived}, {&r.states, s.states}, {&r.peeked, s.peeked},
	} {
		*c.sum += c.n
	}
}

func (r replayed) String() string {
	return fmt.Sprintf("%d prefixes, %d with writes lost or torn, all examined from outside, with %d different states of the agent; %d booted: %d the old release, %d the new one on trial, %d the committed one; "+
		"%d went on to the new one at rest; %d of %d that are alike in all that the boot before them read were booted as well; %d read a slot that could not boot",
		r.prefixes, r.torn, r.states, r.booted, r.old, r.trial, r.new, r.arrived, r.twice, r.alike, r.peeked)
}

// replay looks at one part of the states: neighbours, as far as they are prefixes. Each is examined
// from outside. One is not booted if the disk is, in all that the last boot read of its own, what
// that boot found there: it would be the same boot again.
func (e *engine) replay(h *host, part, parts int, random *rand.Rand) error {
	var r replayed
	var last booting
	still, at := filepath.Join(h.dir, "still.img"), 0
	if err := vm.Clone(e.disks[grubBIOS.name], still); err != nil {
		return err
	}
	table, err := h.table()
	if err != nil {
		return err
	}
	points := e.points()
	states, err := readstate.New(h.ctx, filepath.Join(e.kit.bin, "twinkeel"), h.dir, "stable", h.l.compatible(),
		[2]string{e.kit.content(h.l, "1.0", "root"), e.kit.content(h.l, "2.0", "root")})
	if err != nil {
		return err
	}
	for i, p := range points {
		if partOf(points, i, parts) != part {
			continue
		}
		err := e.rebuild(still, &at, p, random)
		var s bootloader.State
		if err == nil {
			s, err = e.examine(h, still, table, states)
		}
		if err == nil {
			err = e.state(h, still, i, p, s, &last, &r)
		}
		if err != nil {
			return fmt.Errorf("effect %d of %d, chance %t: %w", p.n, len(e.effects), p.chance, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.states = states.States()
	e.replayed.add(r)
	h.note("%v", r)
	return nil
}

// state boots a state, unless that would be the last boot again.
func (e *engine) state(h *host, still string, i int, p cutPoint, s bootloader.State, last *booting, r *replayed) error {
	same := false
	if p.chance {
		r.torn++
	} else {
		r.prefixes++
		var err error
		if same, err = last.alike(still); err != nil {
			return err
		}
	}
	if same {
		r.alike++
		if i%bootEvery != 5 {
			return nil
		}
		r.twice++
	}
	b, err := e.revive(h, still, p)
	if err != nil {
		return err
	}
	if same && !maps.Equal(b.up, last.up) {
		return fmt.Errorf("came up as %v, and before, alike in all that is read, as %v", b.up, last.up)
	}
	r.booted++
	switch {
	case b.up["slot"] == "a":
		r.old++
	case b.up["trial"] == "1":
		r.trial++
	default:
		r.new++
	}
	if !s.Slots[partitions.B].Bootable() {
		for _, name := range []string{"boot-b", "root-b"} {
			slot, err := h.partition(name)
			if err != nil {
				return err
			}
			if touch(b.needs, slot.Start, slot.Start+slot.Size) {
				r.peeked++
				break
			}
		}
	}
	*last = b
	if i%arriveOnce != 5 {
		return nil
	}
	r.arrived++
	return e.survived(h)
}

// examine looks at a disk that no machine has: the partition table is what it was, every slot that
// can boot holds its release, there is one behind a trial, the data partition is intact, and the agent's
// own commands read its state.
func (e *engine) examine(h *host, still string, table []partitions.Partition, states *readstate.Reader) (s bootloader.State, err error) {
	disk := h.c.Disk
	h.c.Disk, h.kept = still, e.keptBefore
	defer func() { h.c.Disk = disk }()
	if err := os.WriteFile(h.c.Log, nil, 0o644); err != nil {
		return s, err
	}
	now, err := h.table()
	if err != nil || !slices.Equal(now, table) {
		return s, fmt.Errorf("partition table: got %v, %w", now, err)
	}
	if s, err = h.record(); err != nil {
		return s, err
	}
	stands := false
	for slot, version := range map[partitions.Slot]string{partitions.A: "1.0", partitions.B: "2.0"} {
		if !s.Slots[slot].Bootable() {
			continue
		}
		stands = stands || s.Slots[slot].Successful
		if err := h.holds(slot.String(), version); err != nil {
			return s, err
		}
	}
	if !stands {
		return s, fmt.Errorf("boot record: no slot that is committed can boot: %+v", s.Slots)
	}
	image, err := h.dataCopy()
	if err != nil {
		return s, err
	}
	dir := filepath.Join(h.dir, "copied")
	err = errors.Join(h.checkImage(image), os.RemoveAll(dir), os.Mkdir(dir, 0o755))
	if err == nil {
		err = e.kit.tool("debugfs", "-R", "rdump /state "+dir, image)
	}
	if err == nil {
		err = states.Read(h.ctx, filepath.Join(dir, "state"))
	}
	return s, errors.Join(err, os.Remove(image))
}

// revive boots a state, and checks what came up, and then what is on the disk: counters and
// data. The machine is off afterwards.
func (e *engine) revive(h *host, still string, p cutPoint) (b booting, err error) {
	if err := vm.Clone(still, h.c.Disk); err != nil {
		return b, err
	}
	if err := os.Remove(h.c.Log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return b, err
	}
	h.watched, h.kept = &watched{}, e.keptBefore
	if !p.chance && p.n == len(e.effects) {
		h.kept = e.keptAfter
	}
	h.tracing, h.traces = true, nil
	defer func() { h.tracing, h.c.Trace = false, "" }()
	u, err := h.boot(3)
	if err != nil {
		return b, err
	}
	if b, err = h.needed(still, u); err != nil {
		return b, err
	}
	if err := isKnown(h, u); err != nil {
		return b, err
	}
	h.off()
	return b, errors.Join(h.counted(), h.checkData())
}

// partOf is the part that a state is in: neighbours are together if they are prefixes, and the others,
// each of which is booted, are dealt out.
func partOf(points []cutPoint, i, parts int) int {
	prefixes := slices.IndexFunc(points, func(p cutPoint) bool { return p.chance })
	if prefixes < 0 {
		prefixes = len(points)
	}
	if i < prefixes {
		return i * parts / prefixes
	}
	return i % parts
}

// rebuild makes the disk what it was at a point. A disk with at effects on it is gone on with.
func (e *engine) rebuild(still string, at *int, p cutPoint, random *rand.Rand) error {
	from := *at
	if p.chance || from > p.n {
		if err := vm.Clone(e.disks[grubBIOS.name], still); err != nil {
			return err
		}
		from = 0
	}
	disk, err := os.OpenFile(still, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	safe := p.n
	if p.chance {
		for safe > 0 && !e.effects[safe-1].Flush {
			safe--
		}
	}
	if err := vm.Cut(disk, e.effects[from:safe], nil); err != nil {
		return err
	}
	if err := vm.Cut(disk, e.effects[safe:p.n], random); err != nil {
		return err
	}
	if *at = p.n; p.chance {
		*at = len(e.effects) + 1 // it is no prefix
	}
	return disk.Close()
}
