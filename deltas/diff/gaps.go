package diff

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/diff/suffix"
)

const (
	// maxResidual is how much of the old image is sorted at once, in bytes. It takes four
	// times that of memory.
	maxResidual = 112 << 20
	// smallJob is how much each worker sorts at once when several do, in bytes.
	smallJob = 8 << 20
	// alignSize is how much of the new residual one worker aligns at a time, in bytes.
	alignSize = 4 << 20
	// maxBridge is the longest gap, in bytes, that is taken for a change in place because
	// its neighbours moved alike.
	maxBridge = 256
)

// job is what is aligned with each other, in order.
type job struct {
	old, new []span
}

// alignGaps finds, for what is new and stands nowhere in the old image, bytes of the old
// image that are like it: for a file, in the file that it probably comes from, and then
// for all that is left, in all that is left. What it finds become pieces of OpDiff.
func (c *creator) alignGaps(ctx context.Context) error {
	if !c.hasOld {
		return nil
	}
	c.bridge()
	old, new := &side{image: c.old}, &side{image: c.new}
	var err error
	if err := old.open(c.oldPrograms, c.oldGaps()); err != nil {
		return fmt.Errorf("old: %w", err)
	}
	gaps := c.newGaps()
	if err := new.open(c.newPrograms, gaps); err != nil {
		return fmt.Errorf("new: %w", err)
	}
	c.areas = old.areas
	partner, err := pair(old, new)
	if err != nil {
		return err
	}
	c.progress.add(c.new.size - length(gaps))
	a := &alignment{creator: c, old: old, new: new, workers: make([]worker, c.threads)}
	a.left.Store(length(gaps))
	if err := a.run(ctx, jobs(old, new, partner)); err != nil {
		return err
	}
	if err := a.run(ctx, windows(c.oldGaps(), c.newGaps())); err != nil {
		return err
	}
	a.done(length(gaps))
	c.pieces = joined(c.pieces)
	c.index, a = nil, nil
	// Else the collector would let garbage grow to what the sorting took.
	runtime.GC()
	return nil
}

// open reads which files there are and which of the gaps belong to them.
func (s *side) open(programs []int64, gaps []span) (err error) {
	if s.files, err = s.image.files(); err != nil {
		return err
	}
	if s.areas, err = s.programs(programs); err != nil {
		return err
	}
	s.own, s.rest = divide(gaps, s.files)
	return nil
}

// programs returns what the programs that begin at the given offsets say of the image.
// Those in files are read as such, as a file need not be in one piece.
func (s *side) programs(starts []int64) ([]area, error) {
	begins := make(map[int64]*file, len(s.files))
	for i, f := range s.files {
		if len(f.spans) > 1 {
			begins[f.spans[0].start] = &s.files[i]
		}
	}
	var whole []int64
	var list []area
	for _, at := range starts {
		f := begins[at]
		if f == nil {
			whole = append(whole, at)
			continue
		}
		found, err := image{ReaderAt: fileReader{s.image, f}, size: length(f.spans)}.areas([]int64{0})
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			for _, part := range f.within(a.span) {
				list = append(list, area{part, a.mode, a.kind})
			}
		}
	}
	found, err := s.image.areas(whole)
	if err != nil {
		return nil, err
	}
	return sorted(append(list, found...)), nil
}

// jobs returns the pairs of files, in the order of the new image. Each is aligned for
// itself: in others there is much that is alike, and none of it as near.
func jobs(old, new *side, partner []int) (list []job) {
	var order []int
	for i, p := range partner {
		if p >= 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(new.own[a][0].start, new.own[b][0].start) })
	for _, i := range order {
		list = append(list, windows(old.own[partner[i]], new.own[i])...)
	}
	return list
}

// windows cuts what is too large to be sorted at once, both sides in proportion.
func windows(old, new []span) (list []job) {
	rounds := max(1, (length(old)+maxResidual-1)/maxResidual)
	olds, news := split(old, rounds), split(new, rounds)
	for i := range rounds {
		if len(olds[i]) > 0 && len(news[i]) > 0 {
			list = append(list, job{olds[i], news[i]})
		}
	}
	return list
}

// alignment runs jobs. Small ones are run at once, each by one worker, large ones by all
// workers together, so that what is sorted at once has a limit.
type alignment struct {
	*creator
	old, new *side
	left     atomic.Int64 // bytes of new, for progress: some are aligned twice
	workers  []worker
}

// worker is what one keeps from job to job.
type worker struct {
	index suffix.Index
	text  []byte // of old
	new   []byte
}

func (a *alignment) run(ctx context.Context, list []job) error {
	found := make([][]piece, len(list))
	var small, large []int
	for i, j := range list {
		if length(j.old) <= smallJob {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	err := parallel(ctx, a.threads, len(small), func(ctx context.Context, n, i int) (err error) {
		w := &a.workers[n]
		found[small[i]], err = a.align(ctx, w, []*worker{w}, list[small[i]])
		return err
	})
	var all []*worker
	for i := range a.workers {
		all = append(all, &a.workers[i])
	}
	for _, i := range large {
		if err != nil {
			return err
		}
		found[i], err = a.align(ctx, all[0], all, list[i])
	}
	for _, f := range found {
		a.pieces = append(a.pieces, f...)
	}
	slices.SortFunc(a.pieces, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	return err
}

// align sorts, in w, what j has of the old image, and lets workers align the rest.
func (a *alignment) align(ctx context.Context, w *worker, workers []*worker, j job) ([]piece, error) {
	old, new := newResidual(a.old.image, a.old.areas, j.old), newResidual(a.new.image, a.new.areas, j.new)
	w.text = slices.Grow(w.text[:0], int(old.size))[:old.size]
	if err := old.read(w.text, 0); err != nil {
		return nil, fmt.Errorf("old: %w", err)
	}
	w.index.Reset(w.text)
	found := make([][]piece, (new.size+alignSize-1)/alignSize)
	err := parallel(ctx, len(workers), len(found), func(_ context.Context, n, i int) error {
		size := min(alignSize, new.size-int64(i)*alignSize)
		b := slices.Grow(workers[n].new[:0], int(size))[:size]
		workers[n].new = b
		if err := new.read(b, int64(i)*alignSize); err != nil {
			return fmt.Errorf("new: %w", err)
		}
		for _, m := range align(&w.index, w.text, b) {
			m.new += i * alignSize
			found[i] = append(found[i], pieces(old, new, m)...)
		}
		a.done(size)
		return nil
	})
	return slices.Concat(found...), err
}

func (a *alignment) done(n int64) {
	a.progress.add(n + min(0, max(-n, a.left.Add(-n))))
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

// bridge makes short gaps, between copies that moved alike, changes in place.
func (c *creator) bridge() {
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
