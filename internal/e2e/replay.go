package main

import (
	"cmp"
	"errors"
	"fmt"
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
	parts := min(maxParts, max(e.prefixes, e.torn))
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

// Every so many states are booted from power on, whatever is known of them; and every so many go on to the
// new release at rest.
const (
	powerOnEvery = 20
	arriveEvery  = 80
)

// replayed counts states of the write log, all of which were booted.
type replayed struct {
	prefixes, torn      int
	states              int // of the agent, that were read
	thawed              int // from where another machine came to, too
	old, trial, current int
	arrived             int // at rest in the new release
	peeked              int // in which something read the slot that could not boot
}

func (r *replayed) add(s replayed) {
	r.prefixes, r.torn, r.states, r.thawed = r.prefixes+s.prefixes, r.torn+s.torn, r.states+s.states, r.thawed+s.thawed
	r.old, r.trial, r.current = r.old+s.old, r.trial+s.trial, r.current+s.current
	r.arrived, r.peeked = r.arrived+s.arrived, r.peeked+s.peeked
}

func (r replayed) String() string {
	all := r.prefixes + r.torn
	return fmt.Sprintf("%d prefixes and %d states with writes lost or torn examined from outside, with %d different states of the agent, and booted, "+
		"%d from power on, %d from where the kernel first reads the disk; %d booted the old release, %d the new one on trial, %d the committed one; "+
		"%d went on to the new one at rest; %d read a slot that could not boot",
		r.prefixes, r.torn, r.states, all-r.thawed, r.thawed, r.old, r.trial, r.current, r.arrived, r.peeked)
}

// replay looks at one part of the states: neighbours, as far as they are prefixes. Each is examined
// from outside, and booted.
func (e *engine) replay(h *host, part, parts int, random *rand.Rand) error {
	still, at := filepath.Join(h.dir, "still.img"), 0
	if err := vm.Clone(e.disks[grubBIOS.name], still); err != nil {
		return err
	}
	table, err := h.table()
	if err != nil {
		return err
	}
	states, err := readstate.New(h.ctx, filepath.Join(e.kit.bin, "twinkeel"), h.dir, "stable", h.l.compatible(),
		[2]string{e.kit.content(h.l, "1.0", "root"), e.kit.content(h.l, "2.0", "root")})
	if err != nil {
		return err
	}
	var r replayed
	var last *frozen
	points := e.points()
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
			last, err = e.state(h, still, i, p, s, last, &r)
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

// state boots a state, and returns what later ones may go on from.
func (e *engine) state(h *host, still string, i int, p cutPoint, s bootloader.State, last *frozen, r *replayed) (*frozen, error) {
	arrive, fresh := i%arriveEvery == 5, i%powerOnEvery == 5
	same, err := last.alike(still)
	if err != nil {
		return nil, err
	}
	if err := e.begin(h, still, p); err != nil {
		return nil, err
	}
	switch {
	case fresh:
		err = h.on()
	case same:
		r.thawed++
		err = h.thaw(last)
	default:
		last, err = h.freeze(still)
	}
	if err != nil {
		return nil, err
	}
	u, err := e.revived(h)
	if err != nil {
		return nil, err
	}
	if p.chance {
		r.torn++
	} else {
		r.prefixes++
	}
	switch {
	case u["slot"] == "a":
		r.old++
	case u["trial"] == "1":
		r.trial++
	default:
		r.current++
	}
	if !s.Slots[partitions.B].Bootable() {
		peeks, err := h.peeks()
		if err != nil {
			return nil, err
		}
		if peeks {
			r.peeked++
		}
	}
	if h.tracing, h.c.Trace = false, ""; !arrive {
		return last, nil
	}
	r.arrived++
	return last, e.survived(h)
}

// peeks reports whether a machine that was just booted read anything of slot b.
func (h *host) peeks() (bool, error) {
	for _, name := range []string{"boot-b", "root-b"} {
		p, err := h.partition(name)
		if err != nil {
			return false, err
		}
		for _, path := range h.traces {
			accesses, err := vm.ReadTrace(path)
			if err != nil {
				return false, err
			}
			if read, _ := needs(accesses); touch(read, p.Start, p.Start+p.Size) {
				return true, nil
			}
		}
	}
	return false, nil
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

// begin makes the machine's disk that of a state, and forgets the machine that there was.
func (e *engine) begin(h *host, still string, p cutPoint) error {
	if err := vm.Clone(still, h.c.Disk); err != nil {
		return err
	}
	if err := os.Remove(h.c.Log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	h.watched, h.kept = &watched{}, e.keptBefore
	if !p.chance && p.n == len(e.effects) {
		h.kept = e.keptAfter
	}
	h.tracing, h.traces = true, nil
	return nil
}

// revived checks what came up of a state, and then what is on the disk: counters and data. The machine is off
// afterwards.
func (e *engine) revived(h *host) (up, error) {
	u, err := e.known(h)
	if err != nil {
		return nil, err
	}
	h.off()
	return u, errors.Join(h.counted(), h.checkData())
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
