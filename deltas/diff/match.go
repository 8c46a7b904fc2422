package diff

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
)

const (
	// chunkSize is how much of the new image one worker holds and matches at a time.
	chunkSize = 8 << 20
	// compareSize is how much of the old image is read at once to be compared.
	compareSize = 128 << 10
)

// piece is a part of the new image that is not DATA.
type piece struct {
	op     deltas.Op // OpZero, OpCopy or OpDiff
	start  int64     // in the new image
	length int64
	from   int64 // in the old image, of OpCopy and OpDiff
}

func (p piece) end() int64 { return p.start + p.length }

// continues reports whether q is what p would be, were it longer.
func (p piece) continues(q piece) bool {
	return p.op == q.op && p.end() == q.start && (p.op == deltas.OpZero || p.from+p.length == q.from)
}

// scanNew reads the new image: its nodes and root, and its pieces.
func (c *creator) scanNew(ctx context.Context) error {
	chunks := make([][]piece, (c.new.size+chunkSize-1)/chunkSize)
	programs := make([][]int64, len(chunks))
	matchers := make([]*matcher, c.threads)
	err := parallel(ctx, c.threads, len(chunks), func(_ context.Context, worker, i int) error {
		if matchers[worker] == nil {
			matchers[worker] = newMatcher(c.old, c.index, int(min(chunkSize, c.new.size)))
		}
		m := matchers[worker]
		m.start = int64(i) * chunkSize
		m.data = m.data[:min(chunkSize, c.new.size-m.start)]
		if err := c.new.read(m.data, m.start); err != nil {
			return fmt.Errorf("new: %w", err)
		}
		for at := 0; at < len(m.data); at += verity.NodeSpan {
			span := m.data[at:min(at+verity.NodeSpan, len(m.data))]
			_, c.nodes[(m.start+int64(at))/verity.NodeSpan] = verity.HashSpan(c.new.salt, span)
		}
		for at := 0; at < len(m.data); at += blockSize {
			if startsProgram(m.data[at:]) {
				programs[i] = append(programs[i], m.start+int64(at))
			}
		}
		var err error
		chunks[i], err = m.match()
		c.progress.add(int64(len(m.data)))
		return err
	})
	if err != nil {
		return err
	}
	c.newPrograms = slices.Concat(programs...)
	tree := verity.NewBuilder(c.new.size, c.new.salt)
	for _, n := range c.nodes {
		tree.Add(n)
	}
	if c.head.Target.Root, _, err = tree.Finish(); err != nil {
		return err
	}
	return c.join(chunks)
}

// matcher finds the pieces of one chunk after the other.
type matcher struct {
	old   image
	index *index // nil if there is no old image
	data  []byte // the chunk
	start int64  // of the chunk, in the new image

	pieces     []piece
	literal    int // where the last piece ended, in data
	candidates []int64
	buffer     []byte
	zero       uint64 // the hash of a zero block
	err        error  // of the old image
}

func newMatcher(old image, x *index, size int) *matcher {
	return &matcher{
		old: old, index: x,
		data:   make([]byte, size),
		buffer: make([]byte, compareSize),
		zero:   hashBlock(make([]byte, blockSize)),
	}
}

func (m *matcher) match() ([]piece, error) {
	m.pieces, m.literal, m.err = nil, 0, nil
	for at := 0; at+blockSize <= len(m.data); {
		h := hashBlock(m.data[at : at+blockSize])
		for !m.take(at, h) {
			if at+blockSize == len(m.data) {
				return m.pieces, m.err
			}
			h = roll(h, m.data[at], m.data[at+blockSize])
			at++
		}
		at = m.literal
		if m.err != nil {
			break
		}
	}
	return m.pieces, m.err
}

// take adds the piece that the block at data[at:], with hash h, is a part of; it
// returns false if there is none.
func (m *matcher) take(at int, h uint64) bool {
	if h == m.zero {
		return m.takeZero(at)
	}
	return m.index != nil && m.index.mayContain(h) && m.takeCopy(at, h)
}

func (m *matcher) takeZero(at int) bool {
	end := at
	for end < len(m.data) && m.data[end] == 0 {
		end++
	}
	if end-at < blockSize {
		return false
	}
	for at > m.literal && m.data[at-1] == 0 {
		at--
	}
	m.add(piece{op: deltas.OpZero, start: m.start + int64(at), length: int64(end - at)})
	return true
}

// takeCopy chooses, of the old blocks with the hash h and of the one that would go on
// where the last copy ended, the one with the longest match.
func (m *matcher) takeCopy(at int, h uint64) bool {
	m.candidates = m.candidates[:0]
	if n := len(m.pieces); n > 0 && m.pieces[n-1].op == deltas.OpCopy {
		last := m.pieces[n-1]
		m.candidates = append(m.candidates, last.from+m.start+int64(at)-last.start)
	}
	m.candidates = m.index.find(h, m.candidates)
	best, from := 0, int64(0)
	for _, c := range m.candidates {
		if n := m.forward(at, c, compareSize); n > best {
			best, from = n, c
		}
	}
	if best < blockSize || m.err != nil {
		return m.err != nil
	}
	if best == compareSize {
		best += m.forward(at+best, from+int64(best), len(m.data))
	}
	before := m.backward(at, from)
	m.add(piece{
		op:     deltas.OpCopy,
		start:  m.start + int64(at-before),
		length: int64(before + best),
		from:   from - int64(before),
	})
	return true
}

func (m *matcher) add(p piece) {
	m.pieces = append(m.pieces, p)
	m.literal = int(p.end() - m.start)
}

// forward returns how many bytes, up to limit, are the same from data[at] on and from
// the offset from of the old image on.
func (m *matcher) forward(at int, from int64, limit int) int {
	if from < 0 || from >= m.old.size {
		return 0
	}
	limit = int(min(int64(limit), int64(len(m.data)-at), m.old.size-from))
	same := 0
	for size := 2 * blockSize; same < limit; size = min(2*size, compareSize) {
		b := m.buffer[:min(size, limit-same)]
		if m.err = m.old.read(b, from+int64(same)); m.err != nil {
			return 0
		}
		n := commonPrefix(b, m.data[at+same:])
		if same += n; n < len(b) {
			break
		}
	}
	return same
}

// backward returns how many bytes are the same before data[at] and before the offset
// from of the old image, as far as the last piece leaves any.
func (m *matcher) backward(at int, from int64) int {
	limit := int(min(int64(at-m.literal), from))
	same := 0
	for same < limit {
		b := m.buffer[:min(blockSize, limit-same)]
		if m.err = m.old.read(b, from-int64(same+len(b))); m.err != nil {
			return 0
		}
		n := commonSuffix(b, m.data[at-same-len(b):at-same])
		if same += n; n < len(b) {
			break
		}
	}
	return same
}

// commonPrefix returns how many bytes of a, which is not the longer one, b begins with.
func commonPrefix(a, b []byte) int {
	i := 0
	for ; i+8 <= len(a); i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < len(a) && a[i] == b[i]; i++ {
	}
	return i
}

// commonSuffix returns how many bytes a and b, of one length, end with alike.
func commonSuffix(a, b []byte) int {
	i := 0
	for i < len(a) && a[len(a)-1-i] == b[len(b)-1-i] {
		i++
	}
	return i
}
