package predict

import (
	"cmp"
	"slices"
)

// Mode says what fields are looked for; the numbers are part of the format.
type Mode byte

const (
	Raw      Mode = 0 // none
	Code     Mode = 1 // x86-64: relative calls, jumps and addresses of 32 bits
	Address  Mode = 2 // addresses of 64 bits
	Relative Mode = 3 // distances of 32 bits from where they stand
	Offset   Mode = 4 // numbers of 32 bits that count from somewhere
	Series   Mode = 5 // numbers of 32 bits, two columns of which change alike

	Modes = 6
)

// BlockSize is how many bytes of the target share a mode.
const BlockSize = 256

// Overhang is how many old bytes behind a piece Try wants to see, if they belong to the
// same instruction: the rest of a field that the end of the piece cuts.
const Overhang = 7

// Move says that old bytes are new bytes elsewhere. Offsets are in the images.
type Move struct {
	Old, New, Length int64
}

// field is one that Try found.
type field struct {
	at    int   // in the piece
	size  int   // bytes
	base  int64 // what is subtracted from the new key to get the new value
	key   int64 // in the old image
	space uint64
	lane  int
	guess uint64
}

// Predictor guesses for one segment, from its first byte to its last. It is not safe for
// concurrent use.
type Predictor struct {
	moves   []Move // by Old
	hint    int    // the move that was last of use
	shifts  shifts
	lanes   [2]int64
	fields  []field // of the last Try
	pending []lesson
	carry   carry  // from the piece before
	next    carry  // of the last Try
	mode    Mode   // of the last Try, as
	old     int64  // its offset in the base
	from    []byte // and its old bytes
}

// carry is the rest of a field that the end of a piece cut.
type carry struct {
	old, new int64 // where it goes on
	b        [8]byte
	n        int
}

// lesson is what a field turned out to be. It counts from the next block on.
type lesson struct {
	key, shift int64
	space      uint64
	lane       int
}

// New returns a Predictor for a segment with the given moves, sorted by Old. It takes
// 4 MiB; Reset makes it ready for another segment.
func New(moves []Move) *Predictor {
	p := &Predictor{shifts: newShifts()}
	p.moves = moves
	return p
}

// Reset forgets everything and makes p ready for a segment with other moves.
func (p *Predictor) Reset(moves []Move) {
	p.shifts.clear()
	*p = Predictor{moves: moves, shifts: p.shifts, fields: p.fields[:0], pending: p.pending[:0]}
}

// Try overwrites out, which is as long as the piece, with what the piece becomes: old
// bytes b[:len(out)], from the offset old of the base, that go to the offset new of the
// target. Behind the piece, b goes on as its instruction does, for Overhang bytes if it
// has them. Try changes nothing that a later Try sees.
func (p *Predictor) Try(mode Mode, old, new int64, b, out []byte) {
	n := copy(out, b)
	p.mode, p.old, p.from = mode, old, b[:n]
	p.fields = p.fields[:0]
	p.next = carry{}
	from := 0
	if p.carry.n > 0 && p.carry.old == old && p.carry.new == new {
		from = copy(out, p.carry.b[:p.carry.n])
	}
	switch mode {
	case Code:
		p.code(old, new, b, n, from)
	case Address:
		p.aligned(old, new, b, n, from, 8, p.address)
	case Relative:
		p.aligned(old, new, b, n, from, 4, p.relative)
	case Offset:
		p.aligned(old, new, b, n, from, 4, p.offset)
	case Series:
		p.aligned(old, new, b, n, from, 4, p.series)
	}
	for i := range p.fields {
		p.write(&p.fields[i], old, new, out)
	}
}

// write puts the guess of f into out, and what does not fit into p.next.
func (p *Predictor) write(f *field, old, new int64, out []byte) {
	for i := range f.size {
		v := byte(f.guess >> (8 * i))
		if at := f.at + i; at < len(out) {
			out[at] = v
		} else {
			p.next.b[at-len(out)] = v
			p.next.n = at - len(out) + 1
		}
	}
	if p.next.n > 0 {
		p.next.old, p.next.new = old+int64(len(out)), new+int64(len(out))
	}
}

// Commit tells what the piece of the last Try became.
func (p *Predictor) Commit(b []byte) {
	p.carry = p.next
	if p.mode != Code {
		p.observe(b)
	}
	for _, f := range p.fields {
		if f.at+f.size > len(b) {
			continue
		}
		var v int64
		if f.size == 8 {
			v = int64(le64(b[f.at:]))
		} else if f.space == codes {
			v = int64(int32(le32(b[f.at:])))
		} else {
			v = int64(le32(b[f.at:]))
		}
		p.pending = append(p.pending, lesson{f.key, v + f.base - f.key, f.space, f.lane})
	}
}

// observe learns from numbers that changed, for modes that may follow: none would ever be
// chosen that knew nothing.
func (p *Predictor) observe(b []byte) {
	for at := int(-p.old & 3); at+4 <= len(b); at += 4 {
		was, is := le32(p.from[at:]), le32(b[at:])
		if was == is {
			continue
		}
		old := p.old + int64(at)
		by := int64(is) - int64(was)
		if p.mode != Offset && was >= minOffset {
			p.pending = append(p.pending, lesson{int64(was), by, offsets, 0})
		}
		if p.mode != Series {
			p.pending = append(p.pending, lesson{int64(was), by, lanes, int(old >> 2 & 1)})
		}
		if p.mode != Address && old&7 == 0 && at+8 <= len(b) {
			if v := le64(p.from[at:]); v >= minAddress && v < maxAddress {
				p.pending = append(p.pending, lesson{int64(v), int64(le64(b[at:]) - v), addresses, 0})
			}
		}
	}
}

// EndBlock makes the lessons of a block count.
func (p *Predictor) EndBlock() {
	for _, l := range p.pending {
		if l.space == lanes {
			p.lanes[l.lane] = l.shift
		} else {
			p.shifts.learn(l.space, l.key, l.shift)
		}
	}
	p.pending = p.pending[:0]
}

// The spaces of keys.
const (
	codes     uint64 = 0 // offsets in the base
	addresses uint64 = 1
	offsets   uint64 = 2
	lanes     uint64 = 3
)

// moved returns the shift of the offset key of the base.
func (p *Predictor) moved(from, key int64) int64 {
	m, own := p.move(from)
	if own && key >= m.Old && key-m.Old < m.Length {
		return m.New - m.Old
	}
	if s, ok := p.shifts.exact(codes, key); ok {
		return s
	}
	if m, ok := p.move(key); ok {
		return m.New - m.Old
	}
	return p.shifts.near(codes, key)
}

// move returns the move that the offset key lies in.
func (p *Predictor) move(key int64) (Move, bool) {
	if len(p.moves) == 0 {
		return Move{}, false
	}
	// The hint must find what the search would, as moves may overlap.
	h := p.hint
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
		p.hint = low - 1
		return m, true
	}
	return Move{}, false
}

// SortMoves sorts moves as New wants them. Of those that begin at one place, the longest
// comes last, which is the one that is found.
func SortMoves(list []Move) {
	slices.SortFunc(list, func(a, b Move) int {
		return cmp.Or(cmp.Compare(a.Old, b.Old), cmp.Compare(a.Length, b.Length), cmp.Compare(a.New, b.New))
	})
}
