package coder

const (
	// matchBits is the size of the table of positions.
	matchBits = 16
	// matchSpan is how many bits the hash of what came before is moved by a byte: after
	// six of them a byte has left it.
	matchSpan = 3
	// minMatch is how many equal bytes are a match, and firstMatch how many of those
	// before a place are looked at.
	minMatch   = 5
	firstMatch = 32
	// matchCap is the length up to which matches are told apart.
	matchCap = 63
	// longMatch is from where on one bit says that all of the expected byte is right.
	longMatch = 24
)

// matcher expects that what followed the same bytes before follows again.
type matcher struct {
	recent []int32 // by hash of the last bytes: where they ended last, 0 for never
	hash   uint32
	length int // of the match, 0 for none
	from   int // where the byte is that is expected next
	odds   [matchCap + 1]uint16
	hits   [matchCap + 1]uint16 // by length: whether all of a byte is what is expected
}

func (m *matcher) reset() {
	if m.recent == nil {
		m.recent = make([]int32, 1<<matchBits)
	} else {
		clear(m.recent)
	}
	m.hash, m.length, m.from = 0, 0, 0
	fill(m.odds[:])
	fill(m.hits[:])
}

// follow takes note of c, the last of the first n bytes of a stream, and looks for a
// match. The last bytes are in ring, whose length is a power of two.
func (m *matcher) follow(ring []byte, n int, c byte) {
	mask := len(ring) - 1
	m.hash = (m.hash*(5<<matchSpan) + uint32(c) + 1) & (1<<matchBits - 1)
	if m.length > 0 && ring[m.from&mask] == c {
		m.from++
		m.length = min(m.length+1, matchCap)
	} else {
		m.length = 0
		if p := int(m.recent[m.hash]); p > firstMatch && n-p <= len(ring)-firstMatch {
			for m.length < firstMatch && ring[(p-1-m.length)&mask] == ring[(n-1-m.length)&mask] {
				m.length++
			}
			if m.length < minMatch {
				m.length = 0
			}
			m.from = p
		}
	}
	m.recent[m.hash] = int32(n)
}

// miss ends a match that was wrong.
func (m *matcher) miss() { m.length = 0 }
