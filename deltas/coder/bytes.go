package coder

import "math/bits"

// byteContexts is how many contexts with counters of their own a byte has.
const byteContexts = 3

// A slot holds the counters of the 15 nodes that four bits have, and first a check, so
// that few contexts are taken for another. Two slots are a cache line.
type slot [16]uint16

// empty is a slot that has learned nothing.
var empty = slot{0, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds,
	evenOdds, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds, evenOdds}

// byteModel predicts bytes, bit by bit, first bit highest. A context is a hash of what
// came before; per context and half of a byte there is a slot.
type byteModel struct {
	tables *tables
	slots  []slot
	mask   uint32

	context   [byteContexts]uint32 // of the byte
	situation uint32               // chooses weights: below situations
	direct    [1 << 16]uint16      // counters by the last byte and the bits known
	sets      [situations << 8]weights

	expect  uint32  // a byte, behind a one, that is expected; 0 if none is
	trust   *uint16 // how often, of late, what is expected so has come
	unknown uint16  // for trust to point at
}

const situations = 4

// reset makes the model forget everything. It has slots for a stream of n bytes, as far
// as most allows.
func (m *byteModel) reset(t *tables, n, most int) {
	size := 1 << 8
	for size < most && size < 2*n {
		size *= 2
	}
	if len(m.slots) < size {
		m.slots = make([]slot, size)
	} else {
		clear(m.slots[:size])
	}
	m.tables, m.mask = t, uint32(size-1)
	m.context, m.situation, m.expect = [byteContexts]uint32{}, 0, 0
	fill(m.direct[:])
	fillWeights(m.sets[:])
}

// find returns the slot of a context; one that holds another context is emptied.
func (m *byteModel) find(context uint32) *slot {
	context *= 0x9e3779b1
	check := uint16(context>>16) | 1
	i := context & m.mask
	first := &m.slots[i]
	if first[0] == check {
		return first
	}
	second := &m.slots[i^1]
	if second[0] == check {
		return second
	}
	if first[1]&countMask > second[1]&countMask {
		first = second
	}
	*first = empty
	first[0] = check
	return first
}

// code codes a byte whose contexts are set and that follows last. Most of the time of a
// decoder goes by here: what rangeCoder.code and quad do is written out for that reason,
// and a bit that is decoded is a mask of all ones or none, for want of a branch that a
// processor could guess wrong.
func (m *byteModel) code(rc *rangeCoder, value, last byte) byte {
	t := m.tables
	direct := (*[256]uint16)(m.direct[int(last)<<8:])
	sets := (*[256]weights)(m.sets[m.situation<<8:])
	known := uint32(1) // the bits known so far, behind a one
	for half := range uint32(2) {
		c := half * known * 0x2c1b3c6d
		s0, s1, s2 := m.find(m.context[0]+c), m.find(m.context[1]+c), m.find(m.context[2]+c)
		span, code := rc.span, rc.value
		for node := uint32(1); node < 16; {
			p0, p1, p2, p3 := &s0[node], &s1[node], &s2[node], &direct[known&255]
			x0 := int32(t.stretch[*p0>>4])
			x1 := int32(t.stretch[*p1>>4])
			x2 := int32(t.stretch[*p2>>4])
			x3 := int32(t.stretch[*p3>>4])
			x4, p4, against := int32(0), &m.unknown, uint32(0)
			if left := bits.LeadingZeros32(known) - 23; m.expect>>left == known {
				// trust counts right and wrong instead of ones and zeros.
				p4, x4 = m.trust, int32(t.stretch[*m.trust>>4])
				if m.expect>>(left-1)&1 == 0 {
					x4, against = -x4, ^uint32(0)
				}
			}
			w := &sets[known&255]
			one := t.mixed(int64(x0)*int64(w[0]) + int64(x1)*int64(w[1]) + int64(x2)*int64(w[2]) + int64(x3)*int64(w[3]) + int64(x4)*int64(w[4]))
			bound := span >> probabilityBits * one
			var ones uint32
			if rc.decoding {
				ones = uint32((int64(code) - int64(bound)) >> 63)
				code -= bound &^ ones
				span = bound&ones | (span-bound)&^ones
				for span < rangeFloor {
					span <<= 8
					code = code<<8 | uint32(rc.read())
				}
			} else {
				ones = -uint32(value >> 7)
				value <<= 1
				rc.span = span
				rc.encode(int(ones&1), bound)
				span = rc.span
			}
			off := int32(ones&0xffff) - int32(one)
			w[0] += (x0*off + learnHalf) >> learnShift
			w[1] += (x1*off + learnHalf) >> learnShift
			w[2] += (x2*off + learnHalf) >> learnShift
			w[3] += (x3*off + learnHalf) >> learnShift
			w[4] += (x4*off + learnHalf) >> learnShift
			t.learn(p0, ones)
			t.learn(p1, ones)
			t.learn(p2, ones)
			t.learn(p3, ones)
			t.learn(p4, ones^against)
			node = node<<1 | ones&1
			known = known<<1 | ones&1
		}
		rc.span, rc.value = span, code
	}
	return byte(known)
}
