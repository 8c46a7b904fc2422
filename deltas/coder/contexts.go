package coder

// kindContexts sets the contexts of the byte that follows b.
var kindContexts = [kinds]func(context *[orders]uint32, b []byte){
	Control:  orderContexts,
	Modes:    orderContexts,
	Literals: orderContexts,
}

func orderContexts(context *[orders]uint32, b []byte) {
	var h uint64
	if n := len(b); n >= 8 {
		h = uint64(b[n-1]) | uint64(b[n-2])<<8 | uint64(b[n-3])<<16 | uint64(b[n-4])<<24 | uint64(b[n-5])<<32 | uint64(b[n-6])<<40
	} else {
		for i, c := range b {
			h |= uint64(c) << (8 * (n - 1 - i))
		}
	}
	context[0] = uint32(h&0xff) * 0x3d4d51c3
	context[1] = hash(h&0xffff, 2)
	context[2] = hash(h&0xffffff, 3)
	context[3] = hash(h&0xffffffff, 4)
	context[4] = hash(h&0xffffffffffff, 6)
	context[5] = hash(h>>8&0xffff, 7)
}

func hash(v uint64, salt uint64) uint32 {
	v = (v + salt*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	v ^= v >> 32
	return uint32(v * 0xd6e8feb86659fd93 >> 32)
}
