package predict

import (
	"cmp"
	"slices"
)

// Move says that old bytes are new bytes elsewhere. Offsets are in the images.
type Move struct {
	Old, New, Length int64
}

// SortMoves sorts moves as New wants them. Of those that begin at one place, the longest
// comes last, which is the one that is found.
func SortMoves(list []Move) {
	slices.SortFunc(list, func(a, b Move) int {
		return cmp.Or(cmp.Compare(a.Old, b.Old), cmp.Compare(a.Length, b.Length), cmp.Compare(a.New, b.New))
	})
}

// move returns the move that the offset key lies in. The hint is where it was last found:
// it saves a search and decides nothing.
func (p *Predictor) move(key int64, hint *int) (Move, bool) {
	if len(p.moves) == 0 {
		return Move{}, false
	}
	// The hint must find what the search would, as moves may overlap.
	h := *hint
	if m := p.moves[h]; key >= m.Old && key-m.Old < m.Length && (h+1 == len(p.moves) || p.moves[h+1].Old > key) {
		return m, true
	}
	low, high := 0, len(p.moves) // the first that begins behind key
	for low < high {
		middle := (low + high) / 2
		if p.moves[middle].Old <= key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return Move{}, false
	}
	if m := p.moves[low-1]; key-m.Old < m.Length {
		*hint = low - 1
		return m, true
	}
	return Move{}, false
}

// place is what is known of where an offset of the base went.
type place struct {
	key, shift int64
	move       int64 // what the move says that it lies in,
	known      int64 // and what was learned of it, or near it
	judge      bool  // whether they say different things
	none       bool  // whether neither says anything
	own        bool  // whether it is in the move that refers to it
}

// find returns where the offset key of the base went, as seen from the offset from.
func (p *Predictor) find(from, key int64) place {
	l := place{key: key}
	if m, ok := p.move(from, &p.here); ok && key >= m.Old && key-m.Old < m.Length {
		l.shift, l.own = m.New-m.Old, true
		return l
	}
	m, moved := p.move(key, &p.there)
	known, learned := p.shifts.find(codes, key)
	l.move, l.known = m.New-m.Old, known
	l.judge = moved && learned && l.move != known
	l.none = !moved && !learned
	l.shift = known
	if moved && (!learned || p.shifts.trusted(key)) {
		l.shift = l.move
	}
	return l
}

// found notes where the place went.
func (p *Predictor) found(l place, shift int64) {
	if l.judge && (l.move == shift || l.known == shift) {
		p.shifts.trust(l.key, l.move == shift)
	}
	if !l.own || l.shift != shift {
		p.shifts.learn(codes, l.key, shift)
	}
}
