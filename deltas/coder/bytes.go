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
	slots []byte
	mask  uint32

	direct  []uint16 // by the last byte and the bits known: plain probabilities
	odds    [orders][256]uint16
	context [orders]uint32 // of the byte
	slot    [orders]*[slotBytes]byte
	match   matcher
	mixer   mixer
	refine  refine
}

func newByteModel(n int) *byteModel {
	slots := minSlots
	for slots < maxSlots && slots < 4*n {
		slots *= 2
	}
	m := &byteModel{
		slots:  make([]byte, slots*slotBytes),
		mask:   uint32(slots - 1),
		direct: make([]uint16, 1<<16),
		mixer:  newMixer(256*matchClasses, orders+2),
		refine: newRefine(1 << 12),
		match:  newMatcher(n),
	}
	for i := range m.direct {
		m.direct[i] = 1 << 15
	}
	for i := range m.odds {
		m.odds[i] = stateOdds
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

// bit codes one bit of a byte.
func (m *byteModel) bit(rc *rangeCoder, bit, node, known int, last byte, direct *uint16) int {
	for i := range m.slot {
		state := m.slot[i][node&15]
		m.mixer.in[i] = int32(stretchTable[m.odds[i][state]>>4])
	}
	m.mixer.in[orders] = int32(stretchTable[*direct>>4])
	class := 0
	m.mixer.in[orders+1], class = m.match.predict(known)

	x := m.mixer.mix(class<<8 | known)
	one := (m.mixer.one + 3*m.refine.apply(x, int(last>>4)<<8|known)) >> 2
	bit = rc.code(bit, legal(one))

	m.mixer.learn(bit)
	m.refine.learn(bit)
	m.match.learn(bit)
	approach(direct, bit, 4)
	for i := range m.slot {
		state := &m.slot[i][node&15]
		approach(&m.odds[i][*state], bit, 7)
		*state = stateNext[*state][bit]
	}
	return bit
}
