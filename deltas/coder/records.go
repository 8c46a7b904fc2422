package coder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

const (
	// maxNumberBits is how many bits a number of an instruction can have.
	maxNumberBits = 48
	// maxRecord is how many bytes an instruction can have.
	maxRecord = 1 + 2*((maxNumberBits+6)/7)
	// opBits is the size of an operation's number: there can be 8.
	opBits = 3
	// modelled is how many bits of a number behind its first are predicted; what is below
	// them could be anything.
	modelled = 3
)

var (
	errRecord = errors.New("not a list of instructions in shortest form")
	errNumber = fmt.Errorf("number of more than %d bits", maxNumberBits)
	errTorn   = errors.New("instruction goes beyond the end")
)

// guessBits is the size of the tables of distances that may come again.
const guessBits = 14

// distant has a bit for each operation that is followed by a distance and a length; the
// others have a length only.
const distant = 1<<1 | 1<<3

// records is the model of instructions: an operation's byte, for some a distance, and a
// length, as varints of the shortest form. They are predicted as numbers, not as bytes:
// first how many bits there are, then the first few of them.
type records struct {
	quad    quad
	ops     uint64              // the last operations, opBits each
	lengths [1 << opBits]uint64 // sizes in bits of the last lengths by operation, a byte each
	length  uint64              // size of the last length
	far     uint64              // sizes of the last distances, a byte each
	exact   uint64              // the last length, if it is short

	// A distance is guessed to be the one that followed the last distance and length, or
	// this place in the base, before.
	guesses [2][1 << guessBits]uint64
	from    uint64 // where the last range of the base ended
	last    uint64 // hash of the last distance and length
	hits    uint64 // whether guesses were right, a bit each

	left int // bytes of the stream that are not yet coded
	rest []byte
	buf  [maxRecord]byte
}

// reset makes r ready for a stream of n bytes.
func (r *records) reset(t *tables, n int) {
	r.quad.reset(t)
	r.ops, r.lengths, r.length, r.far, r.exact = 0, [1 << opBits]uint64{}, 0, 0, 0
	clear(r.guesses[0][:])
	clear(r.guesses[1][:])
	r.from, r.last, r.hits = 0, 0, 0
	r.left, r.rest = n, nil
}

// code encodes b, which is the whole stream, or decodes the next bytes into it.
func (r *records) code(rc *rangeCoder, b []byte) error {
	for len(b) > 0 {
		if rc.cut {
			return errCut
		}
		if !rc.decoding {
			n, err := r.encode(rc, b)
			if err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if len(r.rest) == 0 {
			if err := r.decode(rc); err != nil {
				return err
			}
		}
		n := copy(b, r.rest)
		b, r.rest = b[n:], r.rest[n:]
	}
	return nil
}

// encode encodes the instruction that b begins with and returns its length in bytes.
func (r *records) encode(rc *rangeCoder, b []byte) (int, error) {
	op, at := b[0], 1
	var numbers [2]uint64
	for i := range numbers {
		if i == 0 && (op >= 1<<opBits || distant>>op&1 == 0) {
			continue
		}
		v, n := binary.Uvarint(b[at:])
		if n <= 0 || n > 1 && b[at+n-1] == 0 || bits.Len64(v) > maxNumberBits {
			return 0, errRecord
		}
		numbers[i], at = v, at+n
	}
	if op >= 1<<opBits {
		return 0, errRecord
	}
	_, _, _, err := r.record(rc, op, numbers[0], numbers[1])
	return at, err
}

// decode decodes one instruction into r.rest.
func (r *records) decode(rc *rangeCoder) error {
	op, distance, length, err := r.record(rc, 0, 0, 0)
	if err != nil {
		return err
	}
	b := append(r.buf[:0], op)
	if distant>>op&1 != 0 {
		b = binary.AppendUvarint(b, distance)
	}
	b = binary.AppendUvarint(b, length)
	if len(b) > r.left {
		return errTorn
	}
	r.left -= len(b)
	r.rest = b
	return nil
}

// record codes one instruction.
func (r *records) record(rc *rangeCoder, op byte, distance, length uint64) (byte, uint64, uint64, error) {
	node := uint64(1)
	for i := opBits - 1; i >= 0; i-- {
		bit := r.quad.code(rc, int(op>>i&1),
			node|r.ops&0o77<<8,
			node|r.ops&0o7777<<8|1<<40,
			node|r.ops&7<<8|r.length<<16|r.exact<<24,
			node|r.ops&7<<8|r.far&0xff<<16|2<<40, 0)
		node = node<<1 | uint64(bit)
	}
	op = byte(node & (1<<opBits - 1))
	var err error
	if distant>>op&1 != 0 {
		if distance, err = r.distance(rc, op, distance); err != nil {
			return 0, 0, 0, err
		}
		r.far = r.far<<8 | uint64(bits.Len64(distance))
	}
	kind := 2<<8 | uint64(op)
	length, err = r.number(rc, length, [quadInputs]uint64{
		kind | r.lengths[op]&0xff<<32,
		kind | r.lengths[op]&0xffff<<32,
		kind | r.ops&7<<32 | r.length<<40,
		kind | r.far&0xff<<32 | uint64(distant>>op&1)<<40,
	}, 2+int(op&3))
	if err != nil {
		return 0, 0, 0, err
	}
	if distant>>op&1 != 0 {
		r.from += uint64(int64(distance>>1)^-int64(distance&1)) + length
		r.last = distance<<8 ^ length
	}
	r.length = uint64(bits.Len64(length))
	r.lengths[op] = r.lengths[op]<<8 | r.length
	r.exact = min(length, 32)
	r.ops = r.ops<<opBits | uint64(op)
	return op, distance, length, nil
}

// distance codes the distance of an operation.
func (r *records) distance(rc *rangeCoder, op byte, v uint64) (uint64, error) {
	places := [len(r.guesses)]*uint64{
		&r.guesses[0][hash(r.last, 1)>>(32-guessBits)],
		&r.guesses[1][hash(r.from, 2)>>(32-guessBits)],
	}
	for i, place := range places {
		guess := *place
		if guess == 0 || i > 0 && guess == *places[0] {
			continue
		}
		hit := 0
		if guess == v {
			hit = 1
		}
		kind := uint64(3+i) << 8
		hit = r.quad.code(rc, hit,
			kind|r.hits&15<<32,
			kind|r.hits&255<<32|1<<48,
			kind|uint64(bits.Len64(guess))<<32|r.hits&3<<40|2<<48,
			kind|r.ops&7<<32|r.length<<40|3<<48, 6<<6|i)
		r.hits = r.hits<<1 | uint64(hit)
		if hit == 1 {
			*places[0], *places[1] = guess, guess
			return guess, nil
		}
	}
	kind := 1<<8 | uint64(op)
	v, err := r.number(rc, v, [quadInputs]uint64{
		kind,
		kind | r.far&0xff<<32,
		kind | r.ops&7<<32 | r.length<<40,
		kind | r.ops&7<<32 | r.exact<<40,
	}, 1)
	if v != 0 {
		*places[0], *places[1] = v, v
	}
	return v, err
}

// number codes a number in four contexts, whose bits 10 to 31 are free. The field chooses
// weights, below 8.
func (r *records) number(rc *rangeCoder, v uint64, c [quadInputs]uint64, field int) (uint64, error) {
	size := uint64(bits.Len64(v))
	node := uint64(1)
	for i := 5; i >= 0; i-- {
		bit := r.quad.code(rc, int(size>>i&1), c[0]|node<<10, c[1]|node<<10, c[2]|node<<10, c[3]|node<<10, field<<6|int(node))
		node = node<<1 | uint64(bit)
	}
	if size = node & 63; size > maxNumberBits {
		return 0, errNumber
	}
	if size == 0 {
		return 0, nil
	}
	out := uint64(1)
	for i := int(size) - 2; i >= 0; i-- {
		bit := int(v >> i & 1)
		if out < 1<<(modelled+1) {
			at := (64|out)<<10 | size<<24
			bit = r.quad.code(rc, bit, c[0]|at, c[1]|at, c[2]|at, c[3]|at, field<<6|32|int(out&31))
		} else {
			bit = rc.code(bit, evenOdds)
		}
		out = out<<1 | uint64(bit)
	}
	return out, nil
}
