package deltas

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

const maxSalt = 32

var errTruncated = errors.New("truncated")

// cursor reads the fields of heads and payloads. After the first error it returns zero values.
type cursor struct {
	b   []byte
	err error
}

// uvarint reads a number of at most limit.
func (c *cursor) uvarint(limit uint64) uint64 {
	if c.err != nil {
		return 0
	}
	v, n := binary.Uvarint(c.b)
	switch {
	case n <= 0:
		c.err = errTruncated
		return 0
	case v > limit:
		c.err = fmt.Errorf("number: got %d, want at most %d", v, limit)
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) int64(limit int64) int64 { return int64(c.uvarint(uint64(limit))) }

// blocks reads a length of at most limit bytes, written as a number of blocks.
func (c *cursor) blocks(limit int64) int64 {
	return c.int64(limit/verity.BlockSize) * verity.BlockSize
}

func (c *cursor) bytes(n int) []byte {
	if c.err == nil && n > len(c.b) {
		c.err = errTruncated
	}
	if c.err != nil {
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// relative reads an offset in an image as its signed distance from the offset from.
func (c *cursor) relative(from int64) int64 {
	if c.err != nil {
		return 0
	}
	d, n := binary.Varint(c.b)
	switch {
	case n <= 0:
		c.err = errTruncated
		return 0
	case d < -from || d > release.MaxImageSize-from:
		c.err = fmt.Errorf("offset: got %d from %d on, which is in no image", d, from)
		return 0
	}
	c.b = c.b[n:]
	return from + d
}

func (c *cursor) digest() (d release.Digest) {
	copy(d[:], c.bytes(len(d)))
	return d
}

func (c *cursor) identity() (i Identity) {
	i.Size = c.blocks(release.MaxImageSize)
	i.Root = c.digest()
	if n := int(c.uvarint(maxSalt)); n > 0 {
		i.Salt = append(release.Salt(nil), c.bytes(n)...)
	}
	return i
}
