package sim

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// Disk is a block device with a volatile write cache. It implements
// partitions.OpenDevice.
type Disk struct {
	w      *World
	name   string
	born   uint64 // no other disk of the world has it
	sector int    // bytes that are written or not as one, unless they become garbage
	align  int64
	stable []byte // survives a power cut
	view   []byte // what a reader sees
	cache  []write
	spare  [][]byte // that writes of before lay in
	// honest disks never lie about a flush. No software survives a boot record that is
	// lost after both of its copies were said to be durable.
	honest bool
	// promised is set while the cache holds what a flush said to be durable, betrayed once
	// such writes were lost and nothing has been written since.
	promised, betrayed bool
	// views and stables count what may have changed what a reader sees, and what is durable.
	views, stables uint64
	// guard, if set, is asked before a write; it records what must not be.
	guard func(off int64, n int)
}

// write is one write since the last flush.
type write struct {
	off  int64
	data []byte
}

// maxSpare is how many writes a disk keeps the memory of.
const maxSpare = 4

// NewDisk adds a zeroed disk to the world. Reads and writes have to be multiples of
// align bytes at multiples of align.
func (w *World) NewDisk(name string, size int64, sector int, align int64) *Disk {
	b := w.Memory.take(size)
	d := &Disk{w: w, name: name, born: uint64(len(w.parts)) + 1, sector: sector, align: align, stable: b.stable, view: b.view, spare: b.spare}
	w.parts = append(w.parts, d)
	return d
}

// Memory is what the disks of worlds that have ended leave to those that begin. A nil
// pointer is none.
type Memory struct {
	mu   sync.Mutex
	free map[int64][]buffers // by size
}

// buffers are the memory of a disk.
type buffers struct {
	stable, view []byte
	spare        [][]byte
}

// take returns the memory of a disk of size bytes, zeroed.
func (m *Memory) take(size int64) buffers {
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if list := m.free[size]; len(list) > 0 {
			b := list[len(list)-1]
			m.free[size] = list[:len(list)-1]
			clear(b.stable)
			clear(b.view)
			return b
		}
	}
	return buffers{stable: make([]byte, size), view: make([]byte, size)}
}

// End leaves the memory of the world's disks to others. Nothing of it may be used again.
func (w *World) End() {
	if w.Memory == nil {
		return
	}
	w.Memory.mu.Lock()
	defer w.Memory.mu.Unlock()
	if w.Memory.free == nil {
		w.Memory.free = map[int64][]buffers{}
	}
	for _, p := range w.parts {
		if d, ok := p.(*Disk); ok {
			d.drop()
			size := d.Size()
			w.Memory.free[size] = append(w.Memory.free[size], buffers{d.stable, d.view, d.spare})
			d.stable, d.view, d.spare = nil, nil, nil
		}
	}
}

// Size implements partitions.Device.
func (d *Disk) Size() int64 { return int64(len(d.view)) }

// check refuses a range that is out of bounds or not aligned.
func (d *Disk) check(what string, off int64, n int) error {
	switch {
	case off < 0 || off > d.Size() || int64(n) > d.Size()-off:
		return fmt.Errorf("%s %s: %d bytes at %d reach past its %d bytes", what, d.name, n, off, d.Size())
	case off%d.align != 0 || int64(n)%d.align != 0:
		return fmt.Errorf("%s %s: %d bytes at %d: want multiples of %d", what, d.name, n, off, d.align)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) {
	if err := d.w.call(op{verb: "read", name: d.name, off: off, n: len(b)}); err != nil {
		return 0, err
	}
	if err := d.check("read", off, len(b)); err != nil {
		if off >= 0 && off >= d.Size() {
			return 0, io.EOF
		}
		return 0, err
	}
	return copy(b, d.view[off:]), nil
}

// WriteAt implements io.WriterAt. A write that fails may have written its beginning.
func (d *Disk) WriteAt(b []byte, off int64) (int, error) {
	if err := d.check("write", off, len(b)); err != nil {
		return 0, err
	}
	if d.guard != nil && !d.w.dead {
		d.guard(off, len(b))
	}
	n, err := len(b), d.w.effect(op{verb: "write", name: d.name, off: off, n: len(b)})
	if err != nil {
		n = d.w.rng.IntN(len(b)+1) / d.sector * d.sector
	}
	if n > 0 {
		d.views++
		d.cache = append(d.cache, write{off, d.clone(b[:n])})
		copy(d.view[off:], b[:n])
	}
	return n, err
}

// clone returns a copy of b, in memory that is spare if some fits.
func (d *Disk) clone(b []byte) []byte {
	fit := -1
	for i, s := range d.spare {
		if cap(s) >= len(b) && (fit < 0 || cap(s) < cap(d.spare[fit])) {
			fit = i
		}
	}
	if fit < 0 {
		return slices.Clone(b)
	}
	s := d.spare[fit]
	d.spare = slices.Delete(d.spare, fit, fit+1)
	return append(s[:0], b...)
}

// drop empties the cache.
func (d *Disk) drop() {
	for _, c := range d.cache {
		if len(d.spare) < maxSpare {
			d.spare = append(d.spare, c.data)
		}
	}
	d.cache, d.promised = d.cache[:0], false
}

// Flush implements partitions.Device. A flush that fails leaves what was cached
// unknown, and clean: a second flush that succeeds proves nothing, as on Linux.
func (d *Disk) Flush() error {
	if err := d.w.effect(op{verb: "flush", name: d.name}); err != nil {
		d.crash(Mixed)
		return err
	}
	if d.w.Profile == Lying && !d.honest && d.w.chance(100) {
		d.w.note("flush %s lies", d.name)
		d.promised = len(d.cache) > 0
		return nil
	}
	d.settle()
	return nil
}

// Close implements io.Closer. It flushes nothing.
func (d *Disk) Close() error { return nil }

// Fill makes b the durable content from the start, as a factory does.
func (d *Disk) Fill(b []byte) {
	d.changed()
	copy(d.stable, b)
	copy(d.view, b)
}

// Bytes returns the content as a reader sees it.
func (d *Disk) Bytes() []byte { return d.view }

// Stable returns the content that would survive if the cache were lost.
func (d *Disk) Stable() []byte { return d.stable }

// Rot flips a bit of the medium.
func (d *Disk) Rot(off int64) {
	d.w.note("%s rots at %d", d.name, off)
	d.changed()
	d.stable[off] ^= 0x10
	d.view[off] ^= 0x10
}

func (d *Disk) releaseLock() {}

func (d *Disk) unflushed() int { return len(d.cache) }

// changed notes that both contents may be others now.
func (d *Disk) changed() {
	d.views++
	d.stables++
}

// stamp changes whenever one of the contents may have. While nothing is cached, what is
// durable is what a reader sees, and has its stamp.
func (d *Disk) stamp(durable bool) uint64 {
	if durable && len(d.cache) > 0 {
		return d.stables<<1 | 1
	}
	return d.views << 1
}

func (d *Disk) settle() {
	if len(d.cache) > 0 {
		d.stables++
	}
	for _, c := range d.cache {
		copy(d.stable[c.off:], c.data)
		d.betrayed = false
	}
	d.drop()
}

func (d *Disk) crash(fate Fate) {
	if len(d.cache) > 0 {
		d.changed()
	}
	if d.promised && fate != Kept {
		d.betrayed = true
	}
	switch fate {
	case Kept:
		d.settle()
	case Mixed:
		d.mix()
	case Chosen:
		for _, c := range d.cache {
			if d.w.arrives() {
				copy(d.stable[c.off:], c.data)
			}
		}
	}
	for _, c := range d.cache {
		end := c.off + int64(len(c.data))
		copy(d.view[c.off:end], d.stable[c.off:end])
	}
	d.drop()
}

// mix lets any part of the cache arrive, in any order.
func (d *Disk) mix() {
	order := d.w.rng.Perm(len(d.cache))
	if d.w.chance(2) {
		slices.Sort(order)
	}
	for _, i := range order {
		c := d.cache[i]
		switch d.w.rng.IntN(4) {
		case 0: // lost
		case 1: // arrived
			copy(d.stable[c.off:], c.data)
		default: // torn
			d.tear(c)
		}
	}
}

// tear lets each sector of a write arrive or not; one of eight becomes garbage.
func (d *Disk) tear(c write) {
	for at := 0; at < len(c.data); {
		// Sectors are aligned to the disk, not to the write.
		n := min(d.sector-int(c.off+int64(at))%d.sector, len(c.data)-at)
		where := d.stable[c.off+int64(at):][:n]
		switch d.w.rng.IntN(8) {
		case 0:
			d.w.scramble(where)
		case 1, 2, 3:
			copy(where, c.data[at:])
		}
		at += n
	}
}
