package predict

import "encoding/binary"

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// Mode says what fields are looked for; the numbers are part of the format.
type Mode byte

const (
	Raw     Mode = 0 // none
	X86     Mode = 1 // x86-64 code: relative calls, jumps and addresses
	ARM64   Mode = 2 // AArch64 code: relative branches, and addresses made of page and rest
	Rows4   Mode = 3 // tables of numbers of 4 bytes, with rows of 4 bytes,
	Rows8   Mode = 4 // 8,
	Rows24  Mode = 5 // and 24
	Frames  Mode = 6 // .eh_frame
	GoFuncs Mode = 7 // functions in Go's pclntab

	Modes = 8
)

// BlockSize is how many bytes of the target share a mode.
const BlockSize = 256

// Overhang is how many old bytes behind a piece a Predictor wants to see, if they are
// the same instruction's: the rest of a field that the end of the piece cuts, and what
// tells what a field is.
const Overhang = 64

// Predictor guesses for one segment, from its first byte to its last. It is not safe for
// concurrent use.
type Predictor struct {
	moves       []Move // by Old
	here, there int    // the moves that were last of use
	shifts      *shifts
	state       state
	before      state // the trial
	piece       piece
}

// state is what a trial changes, besides the shifts.
type state struct {
	tables [tables][maxColumns]column
	pages  [32]page
	carry  carry
	frame  frame
	gofunc gofunc
}

// carry is the rest of a field that the end of a piece cut.
type carry struct {
	old, new int64 // where it goes on
	b        [4]byte
	n        int
}

// piece is old bytes on the way to become new ones.
type piece struct {
	old, new int64  // where the bytes lie
	b        []byte // old, with what hangs over
	in, out  []byte // target and difference, or the other way round if decoding
	decoding bool
	done     int // how many bytes of in are in out
}

// New returns a Predictor for a segment with the given moves, sorted by SortMoves. It
// takes 4 MiB; Reset makes it ready for another segment.
func New(moves []Move) *Predictor {
	return &Predictor{moves: moves, shifts: newShifts()}
}

// Reset forgets everything and makes p ready for a segment with other moves.
func (p *Predictor) Reset(moves []Move) {
	p.shifts.forget()
	*p = Predictor{moves: moves, shifts: p.shifts}
}

// Decode makes of a piece of the base, which is b and lies at the offset old, and of its
// difference what stands at the offset new of the target. The two are as long as the
// piece, b is longer by Overhang bytes, as far as the same instruction goes on.
func (p *Predictor) Decode(mode Mode, old, new int64, b, difference, target []byte) {
	p.piece = piece{old: old, new: new, b: b, in: difference, out: target, decoding: true}
	p.run(mode)
}

// Encode is the reverse of Decode: it makes the difference. Both learn the same.
func (p *Predictor) Encode(mode Mode, old, new int64, b, target, difference []byte) {
	p.piece = piece{old: old, new: new, b: b, in: target, out: difference}
	p.run(mode)
}

// Begin begins a trial: what is encoded from now on is forgotten at Undo.
func (p *Predictor) Begin() {
	p.before, p.shifts.trial = p.state, true
}

// Undo ends the trial.
func (p *Predictor) Undo() {
	p.state = p.before
	p.shifts.rollback()
}

func (p *Predictor) run(mode Mode) {
	c := &p.piece
	from := 0
	if k := &p.state.carry; k.n > 0 && k.old == c.old && k.new == c.new {
		from = min(k.n, len(c.in))
		rest := *k
		k.n = 0
		p.carried(rest, from)
	} else {
		k.n = 0
	}
	switch mode {
	case X86:
		p.x86(from)
	case ARM64:
		p.arm64(from)
	case Rows4, Rows8, Rows24:
		p.rows(mode, from)
	case Frames:
		p.frames(from)
	case GoFuncs:
		p.goFuncs(from)
	}
	p.raw(len(c.in))
}

// carried goes on with the field that the piece before cut.
func (p *Predictor) carried(k carry, n int) {
	c := &p.piece
	for i := range n {
		p.byte(i, k.b[i])
	}
	c.done = n
	if n < k.n {
		p.state.carry.n = copy(p.state.carry.b[:], k.b[n:k.n])
		p.state.carry.old, p.state.carry.new = c.old+int64(n), c.new+int64(n)
	}
}

func (p *Predictor) byte(i int, guess byte) byte {
	c := &p.piece
	if c.decoding {
		c.out[i] = guess + c.in[i]
		return c.out[i]
	}
	c.out[i] = c.in[i] - guess
	return c.in[i]
}

// raw takes the bytes before the offset to of the piece as they are.
func (p *Predictor) raw(to int) {
	c := &p.piece
	if c.done >= to {
		return
	}
	b, in, out := c.b[c.done:to], c.in[c.done:to], c.out[c.done:to]
	c.done = to
	i := 0
	for ; i+8 <= len(in); i += 8 {
		v, w := binary.LittleEndian.Uint64(in[i:]), binary.LittleEndian.Uint64(b[i:])
		if c.decoding {
			v = addBytes(v, w)
		} else {
			v = subtractBytes(v, w)
		}
		binary.LittleEndian.PutUint64(out[i:], v)
	}
	for ; i < len(in); i++ {
		if c.decoding {
			out[i] = in[i] + b[i]
		} else {
			out[i] = in[i] - b[i]
		}
	}
}

const tops = 0x8080808080808080

// addBytes adds the bytes of two words, each by itself.
func addBytes(a, b uint64) uint64 { return (a&^tops + b&^tops) ^ (a^b)&tops }

// subtractBytes is the reverse: what added to b makes a.
func subtractBytes(a, b uint64) uint64 { return (a | tops - b&^tops) ^ (a^^b)&tops }

// field32 takes 4 bytes as a field with the given guess. It returns what they are, and
// whether the piece has all of them.
func (p *Predictor) field32(at int, guess uint32) (uint32, bool) {
	c := &p.piece
	p.raw(at)
	if at+4 > len(c.in) {
		p.cut(at, guess)
		return 0, false
	}
	c.done = at + 4
	in := le32(c.in[at:])
	if c.decoding {
		is := uint32(addBytes(uint64(in), uint64(guess)))
		binary.LittleEndian.PutUint32(c.out[at:], is)
		return is, true
	}
	binary.LittleEndian.PutUint32(c.out[at:], uint32(subtractBytes(uint64(in), uint64(guess))))
	return in, true
}

// cut is a field that goes beyond the end of the piece.
func (p *Predictor) cut(at int, guess uint32) {
	c := &p.piece
	k := &p.state.carry
	*k = carry{old: c.old + int64(len(c.in)), new: c.new + int64(len(c.in))}
	for i := range 4 {
		v := byte(guess >> (8 * i))
		if at+i < len(c.in) {
			p.byte(at+i, v)
		} else {
			k.b[k.n] = v
			k.n++
		}
	}
	c.done = len(c.in)
}
