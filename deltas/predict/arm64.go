package predict

// page is what a register was last set to by ADRP: the upper part of an address.
type page struct {
	at       int64 // where that was, in the base, plus 1
	old, new int64
}

const (
	instruction = 4
	// pageReach is how far an address's lower part is looked for behind the upper, in bytes.
	pageReach = 128
	pageMask  = 1<<12 - 1
)

// branch is how an instruction refers to one near: where in it the distance stands, in
// units of 4 bytes (Arm's manual, C4.1).
type branch struct{ shift, bits uint }

func branchOf(w uint32) (branch, bool) {
	switch {
	case w&0x7c000000 == 0x14000000: // B, BL
		return branch{0, 26}, true
	case w&0xff000000 == 0x54000000, w&0x7e000000 == 0x34000000, w&0x3b000000 == 0x18000000: // B.cond; CBZ, CBNZ; LDR of a literal
		return branch{5, 19}, true
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		return branch{5, 14}, true
	}
	return branch{}, false
}

func (f branch) mask() uint32 { return (1<<f.bits - 1) << f.shift }

// distance returns what w refers to, in bytes from it.
func (f branch) distance(w uint32) int64 {
	return int64(int32(w<<(32-f.shift-f.bits))>>(32-f.bits)) * instruction
}

// with returns w with another distance, or as it is if that is impossible.
func (f branch) with(w uint32, distance int64) uint32 {
	if distance%instruction != 0 {
		return w
	}
	n := distance / instruction
	if limit := int64(1) << (f.bits - 1); n < -limit || n >= limit {
		return w
	}
	return w&^f.mask() | uint32(n)<<f.shift&f.mask()
}

func isADRP(w uint32) bool { return w&0x9f000000 == 0x90000000 }

const adrpMask = 0x60ffffe0

// pages returns how many pages ADRP adds.
func pages(w uint32) int64 {
	return int64(int32(w<<8)>>11&^3 | int32(w>>29&3))
}

func withPages(w uint32, n int64) uint32 {
	if n < -(1<<20) || n >= 1<<20 {
		return w
	}
	return w&^adrpMask | uint32(n)&3<<29 | uint32(n)>>2&(1<<19-1)<<5
}

// low returns how far to the left, in bits, the 12-bit offset of w counts, if w adds one
// to an address: ADD, or a load or store.
func low(w uint32) (scale uint, ok bool) {
	switch {
	case w&0x7fc00000 == 0x11000000:
		return 0, true
	case w&0x3b000000 == 0x39000000:
		scale = uint(w >> 30)
		if w&0x04800000 == 0x04800000 && scale == 0 {
			scale = 4
		}
		return scale, true
	}
	return 0, false
}

const lowMask = 0xfff << 10

// Normal returns the AArch64 instruction w without what changes when code moves. far
// tells, for each register, at which instruction it was last set to a page; n is this one's
// number, from 1 on.
func Normal(w uint32, far *[32]int, n int) uint32 {
	if f, ok := branchOf(w); ok && f.bits == 26 {
		return w &^ f.mask()
	}
	if isADRP(w) {
		far[w&31] = n
		return w &^ adrpMask
	}
	if _, ok := low(w); ok {
		if at := far[w>>5&31]; at > 0 && n-at <= pageReach/instruction {
			return w &^ lowMask
		}
	}
	return w
}

// arm64 finds the fields of AArch64 code.
func (p *Predictor) arm64(from int) {
	c := &p.piece
	for at := c.first(from, instruction); at < len(c.in) && at+instruction <= len(c.b); at += instruction {
		w := le32(c.b[at:])
		if f, ok := branchOf(w); ok {
			p.branch(at, w, f)
		} else if isADRP(w) {
			p.upper(at, w)
		} else if scale, ok := low(w); ok {
			p.lower(at, w, scale)
		}
	}
}

func (p *Predictor) branch(at int, w uint32, f branch) {
	c := &p.piece
	old, new := c.old+int64(at), c.new+int64(at)
	key := old + f.distance(w)
	if key < 0 {
		return
	}
	l := p.find(old, key)
	is, ok := p.field32(at, f.with(w, key+l.shift-new))
	if ok && (is^w)&^f.mask() == 0 {
		p.found(l, new+f.distance(is)-key)
	}
}

// upper is ADRP. Where exactly it leads says an instruction that follows.
func (p *Predictor) upper(at int, w uint32) {
	c := &p.piece
	old, new := c.old+int64(at), c.new+int64(at)
	key := old&^pageMask + pages(w)<<12
	if key < 0 {
		return
	}
	l := p.find(old, key+p.lowerOf(at, w&31))
	is, ok := p.field32(at, withPages(w, (l.key+l.shift)>>12-new>>12))
	if !ok {
		is = w
	}
	if (is^w)&^adrpMask == 0 {
		p.state.pages[w&31] = page{old + 1, key, new&^pageMask + pages(is)<<12}
	}
}

// lowerOf returns the lower part of the address whose upper is in a register.
func (p *Predictor) lowerOf(at int, register uint32) int64 {
	c := &p.piece
	for at += instruction; at+instruction <= len(c.b); at += instruction {
		w := le32(c.b[at:])
		if scale, ok := low(w); ok && w>>5&31 == register {
			return int64(w>>10&0xfff) << scale
		}
		if isADRP(w) && w&31 == register {
			break
		}
	}
	return 0
}

func (p *Predictor) lower(at int, w uint32, scale uint) {
	c := &p.piece
	old := c.old + int64(at)
	g := &p.state.pages[w>>5&31]
	if g.at == 0 || old < g.at || old-g.at > pageReach {
		return
	}
	key := g.old + int64(w>>10&0xfff)<<scale
	l := p.find(old, key)
	guess := w
	if by := key + l.shift - g.new; by >= 0 && by>>scale <= 0xfff && by&(1<<scale-1) == 0 {
		guess = w&^uint32(lowMask) | uint32(by>>scale)<<10
	}
	is, ok := p.field32(at, guess)
	if ok && (is^w)&^uint32(lowMask) == 0 {
		p.found(l, g.new+int64(is>>10&0xfff)<<scale-key)
	}
	if w&31 == w>>5&31 {
		*g = page{}
	}
}
