package sim

import (
	"bytes"
	"context"
	"slices"

	"github.com/twinkeel/twinkeel/agent"
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
	// Stamp changes whenever what Peek returns may have changed. One stamp, one content.
	Stamp(durable bool) uint64
	// Rot turns a bit of one copy of the record, unless the other one is damaged or a write
	// is on its way, which a cut may tear: those are two faults at once, of two copies.
	Rot(copy, at int)
}

// OpenLoader makes a boot loader with the given record, and a description of slot A, on
// a disk of its own.
type OpenLoader func(*World, bootloader.State, bootloader.Description) (Firmware, error)

// simulatedLoader is the backend simulated on a disk whose sectors have 64 bytes, so
// that a record is more than one.
type simulatedLoader struct {
	*simulated.Loader
	disk *peekable
}

// peekable is a disk that can be read without a call of the world. Whoever peeks reads
// through the same loader as the agent, so that neither parses what the other one knows.
type peekable struct {
	*Disk
	shown frozen // what a reader sees instead; nil: nobody peeks
}

// ReadAt implements io.ReaderAt.
func (p *peekable) ReadAt(b []byte, off int64) (int, error) {
	if p.shown != nil {
		return p.shown.ReadAt(b, off)
	}
	return p.Disk.ReadAt(b, off)
}

// peek shows the disk's content, as it is or as it would be after a power cut, until hide.
func (p *peekable) peek(durable bool) (hide func()) {
	p.shown = p.view
	if durable {
		p.shown = p.stable
	}
	return func() { p.shown = nil }
}

// Simulated is an OpenLoader: the real code of the backend simulated.
func Simulated(w *World, s bootloader.State, a bootloader.Description) (Firmware, error) {
	d := w.NewDisk("boot record", simulated.Size, w.sector(), 1)
	d.honest = true
	if err := simulated.Create(d, s, map[partitions.Slot]bootloader.Description{partitions.A: a}); err != nil {
		return nil, err
	}
	d.settle()
	p := &peekable{Disk: d}
	return &simulatedLoader{simulated.New(p), p}, nil
}

// Stamp implements Firmware.
func (l *simulatedLoader) Stamp(durable bool) uint64 { return l.disk.stamp(durable) }

// Rot implements Firmware.
func (l *simulatedLoader) Rot(copy, at int) {
	const area = simulated.Size / 5
	if l.disk.unflushed() > 0 {
		return
	}
	other := simulated.New(frozen(l.disk.stable))
	was, err := other.Load(context.Background())
	if err != nil {
		return
	}
	// Only if the copy that stays reads alike, nothing is lost with this one.
	spoilt := slices.Clone(l.disk.stable)
	clear(spoilt[copy*area:][:area])
	if is, err := simulated.New(frozen(spoilt)).Load(context.Background()); err == nil && is == was {
		l.disk.Rot(int64(copy*area + at%128))
	}
}

// Peek implements Firmware.
func (l *simulatedLoader) Peek(durable bool) (s bootloader.State, slots [2]*bootloader.Description, err error) {
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
	m     *Machine
	peeks [2]peeked // the newest two
}

// peeked is what Peek returned at a stamp.
type peeked struct {
	stamp uint64
	state bootloader.State
	slots [2]*bootloader.Description
	err   error
}

func (l *watched) look(durable bool) *peeked {
	stamp := l.Stamp(durable) + 1 // 0: nothing was looked at yet
	for i := range l.peeks {
		if l.peeks[i].stamp == stamp {
			return &l.peeks[i]
		}
	}
	l.peeks[0] = l.peeks[1]
	p := &l.peeks[1]
	p.stamp = stamp
	p.state, p.slots, p.err = l.Peek(durable)
	return p
}

// peek returns the record as a reader sees it.
func (l *watched) peek() bootloader.State {
	p := l.look(false)
	if p.err != nil {
		l.m.broke(1, "the boot record cannot be read: %v", p.err)
	}
	return p.state
}

// durable returns the record as it would be after a power cut that loses the cache.
func (l *watched) durable() bootloader.State {
	p := l.look(true)
	if p.err != nil {
		l.m.broke(1, "the boot record would not survive a power cut: %v", p.err)
	}
	return p.state
}

// described returns what the loader would tell the kernel of a slot, or nil.
func (l *watched) described(slot partitions.Slot) *bootloader.Description {
	return l.look(false).slots[slot]
}

// Store implements bootloader.BootLoader.
func (l *watched) Store(ctx context.Context, s bootloader.State) error {
	if !l.m.dead {
		l.check(l.peek(), s)
	}
	err := l.Firmware.Store(ctx, s)
	l.m.spoilt = l.m.spoilt && err != nil
	return err
}

// check compares the record that is with the one that is to be.
func (l *watched) check(old, next bootloader.State) {
	m := l.m
	m.somethingBoots(next)
	m.onlyHealthyCommits(old, next)
	m.fallbackIsKept(old, next)
	if next.Epoch < old.Epoch {
		m.broke(9, "the epoch in the boot record falls from %d to %d", old.Epoch, next.Epoch)
	}
	m.leftOnRecord(old, next)
	for _, slot := range partitions.Slots {
		was, is := old.Slots[slot], next.Slots[slot]
		if is.Priority > 0 && (was.Priority == 0 || !is.Successful && (is.Tries > was.Tries || was.Successful)) {
			m.armed(slot, is)
		}
	}
}

// armed holds the laws against a slot that is made bootable.
func (m *Machine) armed(slot partitions.Slot, is bootloader.Record) {
	r := m.onlyVerifiedIsArmed(slot)
	m.trials = 0
	t := m.Journal()
	if r == nil || is.Successful {
		return
	}
	if t.Phase != agent.Armed {
		m.broke(9, "slot %s is armed while the journal says %s", slot, t.Phase)
	}
	if m.Profile != Lying && !bytes.Equal(m.State.stable["journal.json"], m.State.view["journal.json"]) {
		m.broke(9, "slot %s is armed while the journal that says so is not durable", slot)
	}
	m.decided = nil
	m.unhealthyNeverReturns(r, t)
	m.heldBack(r, t)
	m.panicIsAVerdict(r, t)
	if r.Manifest.Epoch < m.epoch && t.Kind != agent.KindRollback {
		m.broke(4, "%s of epoch %d is armed, and epoch %d was committed", r.Manifest.Version, r.Manifest.Epoch, m.epoch)
	}
}
