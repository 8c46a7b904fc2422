package bootloadertest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// errPower is what every access returns after the cut.
var errPower = errors.New("power is off")

// Disk is the storage of a backend: a few named blocks, and the files of a directory,
// whose power can fail.
type Disk struct {
	durable map[string][]byte
	pending []write // not flushed, oldest first
	left    int     // effects until the cut; negative: no cut
	frozen  bool    // writes are accepted and forgotten
}

// write is one write that is not flushed.
type write struct {
	block string
	off   int
	data  []byte
	names func(*Disk) []*Disk // a change of names instead: the disks that a cut in it can leave
}

// NewDisk returns a disk whose blocks have the given sizes and are zero.
func NewDisk(sizes map[string]int) *Disk {
	d := &Disk{durable: map[string][]byte{}, left: -1}
	for name, n := range sizes {
		d.durable[name] = make([]byte, n)
	}
	return d
}

// Raw is the durable content of the blocks, to be changed in place.
func (d *Disk) Raw() map[string][]byte { return d.durable }

// Block returns one of the blocks.
func (d *Disk) Block(name string) bootloader.Block {
	if d.durable[name] == nil {
		panic(fmt.Sprintf("no block %q", name))
	}
	return &block{d, name}
}

// clone returns a copy with the power on.
func (d *Disk) clone() *Disk {
	c := &Disk{durable: maps.Clone(d.durable), left: -1}
	for name, b := range c.durable {
		c.durable[name] = bytes.Clone(b)
	}
	return c
}

// key is the durable content of all blocks.
func (d *Disk) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(d.durable)) {
		fmt.Fprintf(&b, "%s %d\n", name, len(d.durable[name]))
		b.Write(d.durable[name])
	}
	return b.String()
}

// effect takes one effect from what is left before the cut.
func (d *Disk) effect() error {
	if d.left == 0 {
		return errPower
	}
	if d.left > 0 {
		d.left--
	}
	return nil
}

// block is one block of a Disk.
type block struct {
	d    *Disk
	name string
}

func (b *block) ReadAt(p []byte, off int64) (int, error) {
	if b.d.left == 0 {
		return 0, errPower
	}
	size := int64(len(b.d.durable[b.name]))
	if off < 0 || int64(len(p)) > size-off {
		return 0, fmt.Errorf("read %d bytes at %d of %d", len(p), off, size)
	}
	copy(p, b.d.durable[b.name][off:])
	for _, w := range b.d.pending { // a reader sees what is written but not flushed
		if w.block == b.name {
			overlay(p, int(off), w)
		}
	}
	return len(p), nil
}

// overlay copies onto p, which begins at off, the part of w that lies in it.
func overlay(p []byte, off int, w write) {
	from, to := max(off, w.off), min(off+len(p), w.off+len(w.data))
	if from < to {
		copy(p[from-off:to-off], w.data[from-w.off:])
	}
}

func (b *block) WriteAt(p []byte, off int64) (int, error) {
	size := int64(len(b.d.durable[b.name]))
	if off < 0 || int64(len(p)) > size-off || off%512 != 0 || len(p)%512 != 0 {
		return 0, fmt.Errorf("write %d bytes at %d of %d: not whole sectors within the block", len(p), off, size)
	}
	if b.d.frozen {
		return len(p), nil
	}
	if b.d.left == 0 {
		return 0, errPower
	}
	b.d.pending = append(b.d.pending, write{block: b.name, off: int(off), data: bytes.Clone(p)})
	return len(p), b.d.effect()
}

func (b *block) Flush() error {
	if err := b.d.effect(); err != nil {
		return err
	}
	b.d.flush()
	return nil
}

func (d *Disk) flush() {
	for _, w := range d.pending {
		if w.names == nil { // who changes names applies the change
			copy(d.durable[w.block][w.off:], w.data)
		}
	}
	d.pending = nil
}

// waits reports whether a write to the sector at p is not flushed.
func (d *Disk) waits(p Place) bool {
	return slices.ContainsFunc(d.pending, func(w write) bool {
		return w.block == p.Block && w.off <= p.Offset && p.Offset < w.off+len(w.data)
	})
}

// crashes returns every disk that a power cut can leave now: the newest unflushed write
// has each of its fates, the ones before it are lost or applied, in any combination.
func (d *Disk) crashes() []*Disk {
	out := []*Disk{d.clone()}
	for i, w := range d.pending {
		var next []*Disk
		for _, base := range out {
			if w.names != nil {
				next = append(next, w.names(base)...)
				continue
			}
			old := base.durable[w.block][w.off : w.off+len(w.data)]
			can := [][]byte{old, w.data}
			if i == len(d.pending)-1 {
				can = fates(old, w.data)
			}
			for _, data := range can {
				c := base.clone()
				copy(c.durable[w.block][w.off:], data)
				next = append(next, c)
			}
		}
		out = next
	}
	return out
}

// fates returns what a sector range can hold when the power fails while it is changed
// from old to new; each content once.
func fates(old, new []byte) [][]byte {
	var out [][]byte
	seen := map[string]bool{}
	add := func(b []byte) {
		if !seen[string(b)] {
			seen[string(b)] = true
			out = append(out, bytes.Clone(b))
		}
	}
	add(old)
	add(new)
	for _, unit := range []int{512, 64} {
		for at := unit; at < len(new); at += unit { // the front or the back arrived
			add(append(bytes.Clone(new[:at]), old[at:]...))
			add(append(bytes.Clone(old[:at]), new[at:]...))
		}
		for at := 0; at < len(new); at += unit { // one piece did, or did not
			one := bytes.Clone(old)
			copy(one[at:], new[at:at+unit])
			add(one)
			but := bytes.Clone(new)
			copy(but[at:], old[at:at+unit])
			add(but)
		}
	}
	for at := 0; at < len(new); at += 512 { // the sector that was being written is noise
		if bytes.Equal(old[at:at+512], new[at:at+512]) {
			continue
		}
		for _, rest := range [][]byte{old, new} {
			b := bytes.Clone(rest)
			noise(b[at : at+512])
			add(b)
		}
	}
	return out
}

// noise fills b with bytes that are no text and no zeros.
func noise(b []byte) {
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x) | 0x80
	}
}
