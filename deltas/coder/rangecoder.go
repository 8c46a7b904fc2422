package coder

import "errors"

const (
	// probabilityBits is the precision of a probability given to the range coder.
	probabilityBits = 16
	// rangeFloor: below it the range is widened by a byte. What is left of a range
	// above it still tells 256 steps of the smallest probability apart.
	rangeFloor = 1 << 24
	// tail is how many bytes end a stream; a decoder starts by reading as many.
	tail = 4
)

var errCut = errors.New("stream ends early")

// rangeCoder codes bits with the probabilities it is given. One type does both
// directions, so that models are written once and cannot differ between the two.
type rangeCoder struct {
	decoding bool
	span     uint32 // width of the current interval

	// encoding
	low     uint64 // start of the interval; bit 32 is a carry
	cache   byte   // the last byte that a carry could still change, and
	started bool   // whether there is one,
	pending int    // and the 0xff bytes behind it
	out     []byte

	// decoding
	value uint32 // what was read, less the start of the interval
	in    []byte
	pos   int
	cut   bool // more was asked for than the input holds
}

func newEncoder(sizeHint int) rangeCoder {
	return rangeCoder{span: 1<<32 - 1, out: make([]byte, 0, sizeHint)}
}

func newDecoder(in []byte) rangeCoder {
	c := rangeCoder{decoding: true, span: 1<<32 - 1, in: in}
	for range tail {
		c.value = c.value<<8 | uint32(c.read())
	}
	return c
}

// code codes a bit that is one with a probability of one/65536, 0 < one < 65536. When
// it decodes it ignores the bit given, and always returns the bit of the stream.
func (c *rangeCoder) code(bit int, one uint32) int {
	bound := c.span >> probabilityBits * one
	if c.decoding {
		if c.value < bound {
			c.span, bit = bound, 1
		} else {
			c.value -= bound
			c.span, bit = c.span-bound, 0
		}
		for c.span < rangeFloor {
			c.span <<= 8
			c.value = c.value<<8 | uint32(c.read())
		}
		return bit
	}
	c.encode(bit, bound)
	return bit
}

// encode encodes a bit; of the interval, bound is what a one has.
func (c *rangeCoder) encode(bit int, bound uint32) {
	if bit != 0 {
		c.span = bound
	} else {
		c.low += uint64(bound)
		c.span -= bound
	}
	for c.span < rangeFloor {
		c.span <<= 8
		c.shift()
	}
}

// learn codes a bit with a probability that learns from it alone, by 1/2^rate.
func (c *rangeCoder) learn(p *uint16, bit int, rate uint) int {
	bit = c.code(bit, min(max(uint32(*p), 16), 1<<probabilityBits-16))
	*p += uint16((int32(-bit)&0xffff - int32(*p)) >> rate)
	return bit
}

// read returns the next byte of the input, zero behind its end.
func (c *rangeCoder) read() byte {
	if c.pos == len(c.in) {
		c.cut = true
		return 0
	}
	b := c.in[c.pos]
	c.pos++
	return b
}

// shift moves the top byte of low to the output, as soon as no carry can reach it.
func (c *rangeCoder) shift() {
	if top := uint32(c.low >> 24); top == 0xff {
		c.pending++
	} else {
		carry := byte(c.low >> 32)
		if c.started {
			c.out = append(c.out, c.cache+carry)
		}
		for ; c.pending > 0; c.pending-- {
			c.out = append(c.out, 0xff+carry)
		}
		c.cache, c.started = byte(top), true
	}
	c.low = c.low & (1<<24 - 1) << 8
}

// finish returns all that was encoded.
func (c *rangeCoder) finish() []byte {
	for range tail + 1 {
		c.shift()
	}
	return c.out
}

// end checks that the decoder has read its input exactly.
func (c *rangeCoder) end() error {
	switch {
	case c.cut:
		return errCut
	case c.pos < len(c.in):
		return errors.New("stream goes on behind its end")
	case c.value != 0:
		return errors.New("stream does not end as an encoder ends it")
	}
	return nil
}
