package coder

import "math/bits"

const (
	// matchLength is how many equal bytes make the matcher look at what followed them.
	matchLength = 6
	// matchClasses: no match, and by length short, middle and long.
	matchClasses = 4
	// matchCap is the length up to which matches are told apart.
	matchCap = 63
	// longMatch is from where on one bit says that all of the expected byte is right.
	longMatch = 28
	// minMatchBits and maxMatchBits bound the table of positions: at most 1 MiB.
	minMatchBits = 8
	maxMatchBits = 18
)

// matcher predicts that what followed the same bytes before follows again.
type matcher struct {
	tables *tables
	recent []uint32 // by hash of matchLength bytes: where they ended last, 0 for never
	shift  uint
	length int // of the match, 0 for none
	from   int // where the byte is that is expected next
	expect int // that byte behind a one; 0 when none is expected any more
	odds   [2 * (matchCap + 1)]uint16
	hits   [matchCap + 1]uint16 // by length: whether a byte is what is expected
	used   *uint16
}

func newMatcher(t *tables, n int) matcher {
	size := uint(minMatchBits)
	for size < maxMatchBits && 1<<size < n {
		size++
	}
	m := matcher{tables: t, recent: make([]uint32, 1<<size), shift: 32 - size}
	fill(m.odds[:])
	fill(m.hits[:])
	return m
}

// follow takes note of the bytes so far and looks for a match.
func (m *matcher) follow(b []byte) {
	n := len(b)
	if m.length > 0 && b[m.from] == b[n-1] {
		m.from++
		m.length = min(m.length+1, matchCap)
	} else {
		m.length = 0
	}
	m.expect = 0
	if n < matchLength {
		return
	}
	h := uint32(0)
	for _, c := range b[n-matchLength:] {
		h = (h + uint32(c) + 1) * 0x2f0b4c47
	}
	h = (h ^ h>>15) * 0x9e3779b1 >> m.shift
	if m.length == 0 {
		if p := int(m.recent[h]); p > 0 {
			for m.length < matchCap && p > m.length && b[p-1-m.length] == b[n-1-m.length] {
				m.length++
			}
			m.from = p
		}
	}
	m.recent[h] = uint32(n)
	if m.length > 0 {
		m.expect = int(b[m.from]) | 256
	}
}

// long codes whether the next byte is the expected one.
func (m *matcher) long(rc *rangeCoder, value byte) (bool, byte) {
	expected := byte(m.expect)
	hit := 0
	if value == expected {
		hit = 1
	}
	if codeBit(rc, &m.hits[m.length], hit, 6) == 1 {
		return true, expected
	}
	m.expect, m.length = 0, 0
	return false, 0
}

// predict returns a stretched prediction for the bit behind those known, and a class
// of match.
func (m *matcher) predict(known int) (x int32, class int) {
	m.used = nil
	if m.expect == 0 {
		return 0, 0
	}
	left := 9 - bits.Len(uint(known))
	if m.expect>>left != known {
		m.expect, m.length = 0, 0
		return 0, 0
	}
	bit := m.expect >> (left - 1) & 1
	m.used = &m.odds[m.length<<1|bit]
	class = 1
	if m.length >= 16 {
		class = 2
	}
	if m.length >= 32 {
		class = 3
	}
	return int32(m.tables.stretch[*m.used>>4]), class
}

// learn notes whether a prediction was right, now that the bit is known.
func (m *matcher) learn(bit int) {
	if m.used != nil {
		approach(m.used, bit, 6)
	}
}
