package coder

// window is how far back matches reach, in bytes.
const window = 1 << 20

// minWindow is what rows looks back to, and more.
const minWindow = 64

// maxSlots bounds the slots of literals to 2 MiB.
const maxSlots = 1 << 16

// literals is the model of programs, of data, and of modes.
type literals struct {
	bytes byteModel
	match matcher
	rows  rows
	ring  []byte // the last bytes; its length is a power of two
	n     int    // how many there were
	last  byte
}

// reset makes l ready for a stream of n bytes.
func (l *literals) reset(t *tables, n int) {
	l.bytes.reset(t, n, maxSlots)
	l.match.reset()
	l.rows = rows{}
	size := minWindow
	for size < window && size < n {
		size *= 2
	}
	if cap(l.ring) < size {
		l.ring = make([]byte, size)
	}
	l.ring = l.ring[:size]
	l.n, l.last = 0, 0
}

// code encodes b, or decodes as many bytes into it.
func (l *literals) code(rc *rangeCoder, b []byte) error {
	mask := len(l.ring) - 1
	for i := range b {
		if rc.cut {
			return errCut
		}
		if l.n >= 2*maxStride {
			l.contexts()
		}
		l.last = l.byte(rc, b[i])
		b[i] = l.last
		l.ring[l.n&mask] = l.last
		if l.n >= maxStride {
			l.rows.follow(l.ring, l.n)
		}
		l.n++
		l.match.follow(l.ring, l.n, l.last)
	}
	return nil
}

// byte codes a byte, with a single bit where a long match goes on.
func (l *literals) byte(rc *rangeCoder, value byte) byte {
	m := &l.match
	l.bytes.expect, l.bytes.situation = 0, 0
	if m.length > 0 {
		expected := l.ring[m.from&(len(l.ring)-1)]
		if m.length >= longMatch {
			hit := 0
			if value == expected {
				hit = 1
			}
			if rc.learn(&m.hits[m.length], hit, 6) == 1 {
				return expected
			}
			m.miss()
		} else {
			l.bytes.expect, l.bytes.trust = uint32(expected)|256, &m.odds[m.length]
			l.bytes.situation = 1
			if m.length >= 16 {
				l.bytes.situation = 2
			}
		}
	}
	return l.bytes.code(rc, value, l.last)
}

// contexts sets the contexts of the next byte: the two bytes before, and in tables what
// stands above.
func (l *literals) contexts() {
	mask, n, s := len(l.ring)-1, l.n, l.rows.stride
	before, second := l.ring[(n-1)&mask], l.ring[(n-2)&mask]
	above, higher := l.ring[(n-s)&mask], l.ring[(n-2*s)&mask]
	// A column often counts up: what the byte to the left has grown by tells of a carry,
	// and as much as the byte above has grown it may grow again.
	left := before - l.ring[(n-s-1)&mask]
	grown := 2*above - higher
	row := uint64(s)<<16 | uint64(above)<<8
	l.bytes.context = [byteContexts]uint32{
		hash(uint64(before)<<8|uint64(second), 1),
		hash(row|uint64(left), 2),
		hash(row|uint64(grown), 3),
	}
}

// strides are the lengths of rows that tables are expected to have, in bytes.
var strides = [...]int{4, 8, 12, 16, 20, 24}

const (
	maxStride = 24
	// strideFade: the merits of a stride fade by 1/2^strideFade with each byte,
	strideFade = 5
	// strideMerit: and grow by this when the byte above is the same.
	strideMerit = 1 << 10
)

// rows finds the length of a table's rows.
type rows struct {
	merits [len(strides)]int32
	stride int // the one that has predicted best of late
}

// follow notes how well each stride has predicted byte n.
func (r *rows) follow(ring []byte, n int) {
	mask := len(ring) - 1
	c, best := ring[n&mask], int32(-1)
	for i, s := range strides {
		merit := r.merits[i] - r.merits[i]>>strideFade
		if c == ring[(n-s)&mask] {
			merit += strideMerit
		}
		r.merits[i] = merit
		if merit > best {
			best, r.stride = merit, s
		}
	}
}
