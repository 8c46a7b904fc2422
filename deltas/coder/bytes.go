package coder

const (
	// orders is how many contexts with histories a byte is predicted from.
	orders = 6
	// slotBytes: a slot holds a check and the states of the 15 nodes of four bits.
	slotBytes = 16
	// maxSlots bounds the histories to 4 MiB.
	maxSlots = 1 << 18
	// minSlots keeps the histories of small streams small.
	minSlots = 1 << 8
)

// byteModel predicts bytes, bit by bit, first bit highest. A context is a hash of what
// came before; per context and per bits of the byte known so far there is a state.
type byteModel struct {
	tables *tables
	slots  []byte
	mask   uint32

	direct    []uint16 // by the last byte and the bits known: plain probabilities
	odds      [orders][256]uint16
	context   [orders]uint32 // of the byte
	slot      [orders]*[slotBytes]byte
	situation int // chooses weights, where no matches do: below matchClasses
	match     matcher
	mixer     mixer
	refine    refine
}

// newByteModel returns a model for a stream of n bytes, of which matches are looked for
// among the first matched.
func newByteModel(n, matched int) *byteModel {
	slots := minSlots
	for slots < maxSlots && slots < 4*n {
		slots *= 2
	}
	t := newTables()
	m := &byteModel{
		tables: t,
		slots:  make([]byte, slots*slotBytes),
		mask:   uint32(slots - 1),
		direct: make([]uint16, 1<<16),
		mixer:  newMixer(t, 256*matchClasses, orders+2),
		refine: newRefine(1 << 12),
		match:  newMatcher(t, matched),
	}
	fill(m.direct)
	for i := range m.odds {
		m.odds[i] = t.odds
	}
	return m
}

// find points at the slot of a context; one that holds another context is emptied.
func (m *byteModel) find(context uint32) *[slotBytes]byte {
	context *= 0x9e3779b1
	check := byte(context >> 24)
	i := (context ^ context>>15) & m.mask
	first := (*[slotBytes]byte)(m.slots[i*slotBytes:])
	if first[0] == check {
		return first
	}
	second := (*[slotBytes]byte)(m.slots[(i^1)*slotBytes:])
	if second[0] == check {
		return second
	}
	if first[1] > second[1] {
		first = second
	}
	*first = [slotBytes]byte{check}
	return first
}

// code codes a byte whose contexts are set and that follows last.
func (m *byteModel) code(rc *rangeCoder, value, last byte) byte {
	if m.match.length >= longMatch {
		if hit, b := m.match.long(rc, value); hit {
			return b
		}
	}
	known := 1 // the bits known so far, behind a one
	direct := (*[256]uint16)(m.direct[int(last)<<8:])
	for half := range 2 {
		for i := range m.slot {
			c := m.context[i] + uint32(i)
			if half == 1 {
				c = c*0x2c1b3c6d + uint32(known)*0x297a2d39
			}
			m.slot[i] = m.find(c)
		}
		node := 1
		for range 4 {
			bit := m.bit(rc, int(value>>7), node, known, last, &direct[known])
			value <<= 1
			node = node<<1 | bit
			known = known<<1 | bit
		}
	}
	return byte(known)
}

// bit codes one bit of a byte. Most of the time of a decoder goes by here: the loops over
// the contexts, and the work of mixer, are written out for that reason.
func (m *byteModel) bit(rc *rangeCoder, bit, node, known int, last byte, direct *uint16) int {
	node &= 15
	s0, s1, s2, s3, s4, s5 := &m.slot[0][node], &m.slot[1][node], &m.slot[2][node], &m.slot[3][node], &m.slot[4][node], &m.slot[5][node]
	p0 := &m.odds[0][*s0]
	p1 := &m.odds[1][*s1]
	p2 := &m.odds[2][*s2]
	p3 := &m.odds[3][*s3]
	p4 := &m.odds[4][*s4]
	p5 := &m.odds[5][*s5]
	x0 := int32(m.tables.stretch[*p0>>4])
	x1 := int32(m.tables.stretch[*p1>>4])
	x2 := int32(m.tables.stretch[*p2>>4])
	x3 := int32(m.tables.stretch[*p3>>4])
	x4 := int32(m.tables.stretch[*p4>>4])
	x5 := int32(m.tables.stretch[*p5>>4])
	x6 := int32(m.tables.stretch[*direct>>4])
	x7, class := m.match.predict(known)

	w := &m.mixer.sets[(class+m.situation)<<8|known]
	sum := int64(x0)*int64(w[0]) + int64(x1)*int64(w[1]) + int64(x2)*int64(w[2]) + int64(x3)*int64(w[3]) + int64(x4)*int64(w[4]) + int64(x5)*int64(w[5]) + int64(x6)*int64(w[6]) + int64(x7)*int64(w[7])
	x := limit(sum >> 16)
	mixed := int32(m.tables.squash[x+stretchLimit+1])
	bit = rc.code(bit, legal((uint32(mixed)+3*m.refine.apply(x, int(last>>4)<<8|known))>>2))

	off := int32(bit)<<16 - mixed
	w[0] += (x0*off + learnHalf) >> learnShift
	w[1] += (x1*off + learnHalf) >> learnShift
	w[2] += (x2*off + learnHalf) >> learnShift
	w[3] += (x3*off + learnHalf) >> learnShift
	w[4] += (x4*off + learnHalf) >> learnShift
	w[5] += (x5*off + learnHalf) >> learnShift
	w[6] += (x6*off + learnHalf) >> learnShift
	w[7] += (x7*off + learnHalf) >> learnShift
	m.refine.learn(bit)
	m.match.learn(bit)
	approach(direct, bit, 4)
	approach(p0, bit, 7)
	approach(p1, bit, 7)
	approach(p2, bit, 7)
	approach(p3, bit, 7)
	approach(p4, bit, 7)
	approach(p5, bit, 7)
	y := bit & 1
	*s0 = m.tables.next[*s0][y]
	*s1 = m.tables.next[*s1][y]
	*s2 = m.tables.next[*s2][y]
	*s3 = m.tables.next[*s3][y]
	*s4 = m.tables.next[*s4][y]
	*s5 = m.tables.next[*s5][y]
	return bit
}
