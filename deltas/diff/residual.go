package diff

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/diff/suffix"
)

const (
	// maxResidual is how much of the old image is sorted at once, in bytes. It takes five
	// times that of memory.
	maxResidual = 160 << 20
	// alignSize is how much of the new residual one worker aligns at a time, in bytes.
	alignSize = 4 << 20
	// minAlign is the least gap that is aligned, in bytes: what an instruction costs.
	minAlign = 24
	// maxBridge is the longest gap, in bytes, that is taken for a change in place because
	// its neighbours moved alike.
	maxBridge = 256
)

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

// alignGaps finds, for what is new and stands nowhere in the old image, bytes of the old
// image that are like it. What it finds become pieces of OpDiff.
func (c *creator) alignGaps(ctx context.Context) error {
	if !c.hasOld {
		return nil
	}
	if err := c.bridge(); err != nil {
		return err
	}
	oldAreas, err := c.old.areas(c.oldPrograms)
	if err != nil {
		return fmt.Errorf("old: %w", err)
	}
	newAreas, err := c.new.areas(c.newPrograms)
	if err != nil {
		return fmt.Errorf("new: %w", err)
	}
	c.areas = oldAreas
	oldGaps, newGaps := c.oldGaps(), c.newGaps()
	rounds := max(1, (length(oldGaps)+maxResidual-1)/maxResidual)
	oldRounds, newRounds := split(oldGaps, rounds), split(newGaps, rounds)
	for i := range rounds {
		if len(oldRounds[i]) == 0 || len(newRounds[i]) == 0 {
			continue
		}
		old, new := newResidual(c.old, oldAreas, oldRounds[i]), newResidual(c.new, newAreas, newRounds[i])
		if err := c.align(ctx, old, new); err != nil {
			return err
		}
	}
	c.index = nil
	// Else the collector would let garbage grow to what the sorting took.
	runtime.GC()
	slices.SortFunc(c.pieces, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	c.pieces = joined(c.pieces)
	return nil
}

// joined joins pieces that continue each other.
func joined(list []piece) []piece {
	out := list[:0]
	for _, p := range list {
		if n := len(out); n > 0 && out[n-1].continues(p) {
			out[n-1].length += p.length
		} else {
			out = append(out, p)
		}
	}
	return out
}

// align aligns one residual with another.
func (c *creator) align(ctx context.Context, old, new *residual) error {
	text := make([]byte, old.size)
	if err := old.read(text, 0); err != nil {
		return fmt.Errorf("old: %w", err)
	}
	index := suffix.NewIndex(text)
	found := make([][]piece, (new.size+alignSize-1)/alignSize)
	buffers := make([][]byte, c.threads)
	err := parallel(ctx, c.threads, len(found), func(_ context.Context, worker, i int) error {
		if buffers[worker] == nil {
			buffers[worker] = make([]byte, min(alignSize, new.size))
		}
		b := buffers[worker][:min(alignSize, new.size-int64(i)*alignSize)]
		if err := new.read(b, int64(i)*alignSize); err != nil {
			return fmt.Errorf("new: %w", err)
		}
		a := aligner{index: index, old: text, new: b}
		for _, m := range a.align() {
			m.new += i * alignSize
			found[i] = append(found[i], pieces(old, new, m)...)
		}
		return nil
	})
	for _, list := range found {
		c.pieces = append(c.pieces, list...)
	}
	return err
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

// bridge makes short gaps, between copies that moved alike, changes in place.
func (c *creator) bridge() error {
	var list []piece
	for i, p := range c.pieces {
		if i > 0 && p.op == deltas.OpCopy {
			a := c.pieces[i-1]
			gap := p.start - a.end()
			if a.op == deltas.OpCopy && gap > 0 && gap <= maxBridge && p.from-a.from == p.start-a.start {
				list = append(list, piece{op: deltas.OpDiff, start: a.end(), length: gap, from: a.from + a.length})
			}
		}
		list = append(list, p)
	}
	c.pieces = list
	return nil
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

// split divides list into rounds of about one length.
func split(list []span, rounds int64) [][]span {
	out := make([][]span, rounds)
	each := (length(list) + rounds - 1) / rounds
	round, left := 0, each
	for _, s := range list {
		for s.start < s.end {
			if left == 0 {
				round, left = round+1, each
			}
			n := min(left, s.end-s.start)
			out[round] = append(out[round], span{s.start, s.start + n})
			s.start += n
			left -= n
		}
	}
	return out
}
