package diff

import (
	"fmt"

	"github.com/twinkeel/twinkeel/deltas"
)

// join makes c.pieces of the pieces of all chunks. No piece and no match reaches over
// the end of a chunk, so what lies there is grown together here.
func (c *creator) join(chunks [][]piece) error {
	for i, list := range chunks {
		for j, p := range list {
			if j == 0 && i > 0 && len(c.pieces) > 0 {
				if err := c.close(&c.pieces[len(c.pieces)-1], &p); err != nil {
					return err
				}
			}
			if n := len(c.pieces); n > 0 && c.pieces[n-1].continues(p) {
				c.pieces[n-1].length += p.length
			} else if p.length > 0 {
				c.pieces = append(c.pieces, p)
			}
		}
		chunks[i] = nil
	}
	return nil
}

// close grows a forward, and then b backward, into the bytes between them.
func (c *creator) close(a, b *piece) error {
	for a.end() < b.start {
		n := min(compareSize, b.start-a.end())
		same, err := c.same(a, a.end(), n)
		if err != nil {
			return err
		}
		a.length += same
		if same < n {
			break
		}
	}
	for a.end() < b.start {
		n := min(compareSize, b.start-a.end())
		same, err := c.sameBefore(b, n)
		if err != nil {
			return err
		}
		b.start, b.from, b.length = b.start-same, b.from-same, b.length+same
		if same < n {
			break
		}
	}
	return nil
}

// same returns how many of the n bytes at the offset at of the new image are as they
// would be, did p go on.
func (c *creator) same(p *piece, at, n int64) (int64, error) {
	a, b, err := c.pair(p, at, n)
	if err != nil {
		return 0, err
	}
	return int64(commonPrefix(a, b)), nil
}

// sameBefore is the same for the n bytes before p.
func (c *creator) sameBefore(p *piece, n int64) (int64, error) {
	if p.op == deltas.OpCopy {
		n = min(n, p.from)
	}
	a, b, err := c.pair(p, p.start-n, n)
	if err != nil {
		return 0, err
	}
	return int64(commonSuffix(a, b[:len(a)])), nil
}

// pair returns what p would make of n bytes at the offset at, as far as there is an old
// image, and what the new image has there.
func (c *creator) pair(p *piece, at, n int64) (want, got []byte, err error) {
	got = make([]byte, n)
	if err := c.new.read(got, at); err != nil {
		return nil, nil, fmt.Errorf("new: %w", err)
	}
	want = make([]byte, n)
	if p.op == deltas.OpCopy {
		from := p.from + at - p.start
		want = want[:max(0, min(n, c.old.size-from))]
		if err := c.old.read(want, from); err != nil {
			return nil, nil, fmt.Errorf("old: %w", err)
		}
	}
	return want, got, nil
}
