package coder

import "math/bits"

// kindContexts sets the contexts of the byte that follows b.
var kindContexts = [kinds]func(r *rowModel, context *[orders]uint32, b []byte){
	Control:  (*rowModel).numberContexts,
	Modes:    (*rowModel).orderContexts,
	Literals: (*rowModel).orderContexts,
}

// strides are the lengths of rows that tables are expected to have.
var strides = [...]int{4, 8, 12, 16, 20, 24}

// rowModel finds the length of the rows of a table.
type rowModel struct {
	scores [len(strides)]int32
	stride int

	bytes  uint64 // the bytes so far of the number that is being read, behind a one
	shapes uint64 // lengths of the last numbers, four bits each
	heads  uint64 // low bytes of the last numbers
}

// number takes note of a byte of a stream of varints.
func (r *rowModel) number(c byte) {
	if r.bytes == 0 {
		r.bytes = 1
	}
	r.bytes = r.bytes<<8 | uint64(c)
	if c >= 0x80 {
		return
	}
	length := uint64(bits.Len64(r.bytes) / 8)
	r.shapes = r.shapes<<4 | length
	r.heads = r.heads<<8 | r.bytes>>(8*(length-1))&0xff
	r.bytes = 1
}

func (r *rowModel) numberContexts(context *[orders]uint32, b []byte) {
	if len(b) > 0 {
		r.number(b[len(b)-1])
	}
	shape3, shape5 := r.shapes&0xfff, r.shapes&0xfffff
	context[0] = hash(r.bytes<<12|shape3, 1)
	context[1] = hash(r.bytes<<20|shape5, 2)
	context[2] = hash(r.bytes<<16|r.heads&0xffff, 3)
	context[3] = hash(r.bytes<<16|r.heads>>16&0xffff, 4)
	context[4] = hash(r.bytes<<20|r.shapes&0xff<<8|r.heads>>8&0xff, 5)
	context[5] = hash(uint64(bits.Len64(r.bytes))<<32|r.heads&0xffff<<12|shape3, 6)
}

// follow notes how well each stride would have predicted the last byte.
func (r *rowModel) follow(b []byte) {
	n := len(b) - 1
	best := int32(-1)
	for i, s := range strides {
		if n < s {
			break
		}
		r.scores[i] -= r.scores[i] >> 5
		if b[n] == b[n-s] {
			r.scores[i] += 1 << 10
		}
		if r.scores[i] > best {
			best, r.stride = r.scores[i], s
		}
	}
}

func (r *rowModel) orderContexts(context *[orders]uint32, b []byte) {
	var h uint64
	n := len(b)
	if n >= 8 {
		h = uint64(b[n-1]) | uint64(b[n-2])<<8 | uint64(b[n-3])<<16 | uint64(b[n-4])<<24 | uint64(b[n-5])<<32 | uint64(b[n-6])<<40
	} else {
		for i, c := range b {
			h |= uint64(c) << (8 * (n - 1 - i))
		}
	}
	context[0] = hash(h&0xffff, 2)
	context[1] = hash(h&0xffffff, 3)
	context[2] = hash(h&0xffffffff, 4)
	context[3] = hash(h&0xffffffffffff, 6)
	if n > 2*maxStride {
		s := r.stride
		up, up2, left := uint64(b[n-s]), uint64(b[n-2*s]), uint64(b[n-1]-b[n-s-1])
		context[4] = hash(uint64(s)<<16|up<<8|left, 8)
		context[5] = hash(uint64(s)<<16|up<<8|(2*up-up2)&255, 9)
	}
}

const maxStride = 24

func hash(v uint64, salt uint64) uint32 {
	v = (v + salt*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	v ^= v >> 32
	return uint32(v * 0xd6e8feb86659fd93 >> 32)
}
