package diff

import (
	"cmp"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
)

// minAlign is the least gap that is aligned, in bytes: what an instruction costs.
const minAlign = 24

// residual is a part of an image, in pieces that lie one behind the other.
type residual struct {
	image image
	areas []area
	parts []part
	size  int64
}

// part is a piece of a residual.
type part struct {
	span       // of the image
	at   int64 // in the residual
}

func newResidual(i image, areas []area, list []span) *residual {
	r := &residual{image: i, areas: areas}
	for _, s := range list {
		r.parts = append(r.parts, part{s, r.size})
		r.size += s.end - s.start
	}
	return r
}

// read reads len(b) bytes from the offset at of the residual on, normalized.
func (r *residual) read(b []byte, at int64) error {
	for i := r.find(at); len(b) > 0; i++ {
		p := r.parts[i]
		start := p.start + at - p.at
		n := min(int64(len(b)), p.end-start)
		if err := r.image.read(b[:n], start); err != nil {
			return err
		}
		normalize(b[:n], start, r.areas)
		b, at = b[n:], at+n
	}
	return nil
}

// find returns the index of the part that the offset at of the residual lies in.
func (r *residual) find(at int64) int {
	i, ok := slices.BinarySearchFunc(r.parts, at, func(p part, at int64) int { return cmp.Compare(p.at, at) })
	if !ok {
		i--
	}
	return i
}

// pieces cuts a match at the ends of the parts it goes over.
func pieces(old, new *residual, m match) (list []piece) {
	o, n := old.find(int64(m.old)), new.find(int64(m.new))
	for at := int64(0); at < int64(m.length); {
		oldPart, newPart := old.parts[o], new.parts[n]
		oldAt, newAt := int64(m.old)+at-oldPart.at, int64(m.new)+at-newPart.at
		oldLeft, newLeft := oldPart.end-oldPart.start-oldAt, newPart.end-newPart.start-newAt
		size := min(int64(m.length)-at, oldLeft, newLeft)
		if size >= minAlign || size == int64(m.length) {
			list = append(list, piece{op: deltas.OpDiff, start: newPart.start + newAt, length: size, from: oldPart.start + oldAt})
		}
		if size == oldLeft {
			o++
		}
		if size == newLeft {
			n++
		}
		at += size
	}
	return list
}

// newGaps returns what is not in pieces, as far as it is worth aligning.
func (c *creator) newGaps() (list []span) {
	at := int64(0)
	for _, p := range c.pieces {
		if p.start-at >= minAlign {
			list = append(list, span{at, p.start})
		}
		at = p.end()
	}
	if c.new.size-at >= minAlign {
		list = append(list, span{at, c.new.size})
	}
	return list
}

// oldGaps returns what no piece is from and is not zero.
func (c *creator) oldGaps() (list []span) {
	var used []span
	for _, p := range c.pieces {
		if p.op.FromBase() {
			used = append(used, span{p.from, p.from + p.length})
		}
	}
	zero := hashBlock(make([]byte, blockSize))
	for i, h := range c.index.hashes {
		if h == zero {
			used = append(used, span{int64(i) * blockSize, int64(i+1) * blockSize})
		}
	}
	slices.SortFunc(used, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	at := int64(0)
	for _, u := range append(used, span{c.old.size, c.old.size}) {
		if u.start-at >= minAlign {
			list = append(list, span{at, u.start})
		}
		at = max(at, u.end)
	}
	return list
}

func length(list []span) (n int64) {
	for _, s := range list {
		n += s.end - s.start
	}
	return n
}
