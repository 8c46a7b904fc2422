package coder

import "math/bits"

// contexts knows what to predict a byte from. set is called once for each byte of a
// stream, with all the bytes before it.
type contexts interface {
	set(context *[orders]uint32, b []byte)
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

// rows is for programs and data: the bytes before, and in tables the bytes above.
type rows struct {
	merits [len(strides)]int32
	stride int // the one that has predicted best of late
}

// follow notes how well each stride has predicted the last byte.
func (r *rows) follow(b []byte) {
	last := len(b) - 1
	best := int32(-1)
	for i, s := range strides {
		if last < s {
			break
		}
		r.merits[i] -= r.merits[i] >> strideFade
		if b[last] == b[last-s] {
			r.merits[i] += strideMerit
		}
		if r.merits[i] > best {
			best, r.stride = r.merits[i], s
		}
	}
}

func (r *rows) set(context *[orders]uint32, b []byte) {
	r.follow(b)
	n := len(b)
	var before uint64 // the last bytes, the last one lowest
	for i := 1; i <= min(n, 6); i++ {
		before |= uint64(b[n-i]) << (8 * (i - 1))
	}
	context[0] = hash(before&0xffff, 2)
	context[1] = hash(before&0xffffff, 3)
	context[2] = hash(before&0xffffffff, 4)
	context[3] = hash(before, 6)
	if n <= 2*maxStride {
		return
	}
	s := r.stride
	above := uint64(b[n-s])
	// A column often counts up: what the byte to the left has grown by tells of a carry,
	// and as much as the byte above has grown it may grow again.
	left := uint64(b[n-1] - b[n-s-1])
	grown := uint64(2*b[n-s] - b[n-2*s])
	context[4] = hash(uint64(s)<<16|above<<8|left, 8)
	context[5] = hash(uint64(s)<<16|above<<8|grown, 9)
}

// numbers is for streams of varints: instructions have fields, which the lengths of the
// numbers before tell apart.
type numbers struct {
	bytes  uint64 // of the number that is being read, so far, behind a one
	shapes uint64 // lengths of the last numbers in bytes, four bits each
	heads  uint64 // first bytes of the last numbers
}

// follow takes note of a byte.
func (r *numbers) follow(c byte) {
	r.bytes = r.bytes<<8 | uint64(c)
	if c >= 0x80 {
		return
	}
	// Of a number of more than seven bytes the one that marks its start is lost: its
	// length and head are then wrong, but the same for encoder and decoder.
	length := max(bits.Len64(r.bytes)/8, 1)
	r.shapes = r.shapes<<4 | uint64(length)
	r.heads = r.heads<<8 | r.bytes>>(8*(length-1))&0xff
	r.bytes = 1
}

func (r *numbers) set(context *[orders]uint32, b []byte) {
	if len(b) == 0 {
		r.bytes = 1
	} else {
		r.follow(b[len(b)-1])
	}
	length := uint64(bits.Len64(r.bytes))
	context[0] = hash(r.bytes<<12|r.shapes&0xfff, 1)
	context[1] = hash(r.bytes<<20|r.shapes&0xfffff, 2)
	context[2] = hash(r.bytes<<16|r.heads&0xffff, 3)
	context[3] = hash(r.bytes<<16|r.heads>>16&0xffff, 4)
	context[4] = hash(r.bytes<<20|r.shapes&0xff<<8|r.heads>>8&0xff, 5)
	context[5] = hash(length<<32|r.heads&0xffff<<12|r.shapes&0xfff, 6)
}

// hash spreads a value; salt tells values of different kinds apart.
func hash(v, salt uint64) uint32 {
	v = (v + salt*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	v ^= v >> 32
	return uint32(v * 0xd6e8feb86659fd93 >> 32)
}
