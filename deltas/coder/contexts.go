package coder

// kindContexts sets the contexts of the byte that follows b.
var kindContexts = [kinds]func(r *rowModel, context *[orders]uint32, b []byte){
	Control:  (*rowModel).orderContexts,
	Modes:    (*rowModel).orderContexts,
	Literals: (*rowModel).orderContexts,
}

// strides are the lengths of rows that tables are expected to have.
var strides = [...]int{4, 8, 12, 16, 20, 24}

// rowModel finds the length of the rows of a table.
type rowModel struct {
	scores [len(strides)]int32
	stride int
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
