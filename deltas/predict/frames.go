package predict

// frame is a record of .eh_frame (Linux Standard Base, 10.6) that a piece ends in. Its
// offsets are in the base, as those of what it is about.
type frame struct {
	start, end int64
	cie        bool  // whether it is what others refer to
	key        int64 // where the code begins that it is about
	to         int64 // and where that began in the target
}

const (
	minFrame = 16
	maxFrame = 1 << 16
)

// frames finds the records of .eh_frame and, in those about functions, the distance to
// the common record, that to the function, its length, and the distance to its table of
// exceptions.
func (p *Predictor) frames(from int) {
	c, f := &p.piece, &p.state.frame
	if f.start > c.old || f.end <= c.old {
		*f = frame{}
		if !p.nextFrame(from) {
			return
		}
	}
	for {
		p.inFrame(from)
		if f.end >= c.old+int64(len(c.in)) {
			return
		}
		if at := int(f.end - c.old); !p.startFrame(at) && !p.nextFrame(at+4) {
			return
		}
	}
}

// nextFrame finds the first record from the offset at of the piece on that another
// follows.
func (p *Predictor) nextFrame(at int) bool {
	c := &p.piece
	for at = c.first(at, 4); at < len(c.in); at += 4 {
		if !p.startFrame(at) {
			continue
		}
		end := int(p.state.frame.end - c.old)
		if end+4 > len(c.b) || PlausibleFrame(le32(c.b[end:])) {
			return true
		}
	}
	p.state.frame = frame{}
	return false
}

// PlausibleFrame reports whether a record may begin with that length.
func PlausibleFrame(length uint32) bool {
	return length >= minFrame-4 && length < maxFrame && length%4 == 0
}

// startFrame begins a record at the offset at of the piece, if one may begin there.
func (p *Predictor) startFrame(at int) bool {
	c := &p.piece
	if at+8 > len(c.b) || !PlausibleFrame(le32(c.b[at:])) {
		return false
	}
	start := c.old + int64(at)
	back := int64(le32(c.b[at+4:]))
	if back > start+4 {
		return false
	}
	p.state.frame = frame{start: start, end: start + 4 + int64(le32(c.b[at:])), cie: back == 0}
	return true
}

// inFrame takes the fields of the record that lie in the piece, behind the offset from.
func (p *Predictor) inFrame(from int) {
	c, f := &p.piece, &p.state.frame
	if f.cie {
		return
	}
	has := func(at int) bool { return at >= from && at < len(c.in) && at+4 <= len(c.b) }
	start := int(f.start - c.old)
	if at := start + 4; has(at) {
		here := c.old + int64(at)
		key := here - int64(le32(c.b[at:]))
		l := p.find(key, key)
		if l.none {
			l.shift = c.new - c.old
		}
		to := c.new + int64(at)
		if is, ok := p.field32(at, uint32(to-key-l.shift)); ok {
			p.found(l, to-int64(is)-key)
		}
	}
	if at := start + 8; has(at) {
		f.key = c.old + int64(at) + int64(int32(le32(c.b[at:])))
		f.to = p.refer(at, c.old+int64(at))
	}
	if at := start + 12; has(at) && f.to > 0 {
		p.extent(at)
	}
	if at := start + 17; has(at) && at > 0 && c.b[at-1] == 4 {
		p.refer(at, c.old+int64(at))
	}
}

// extent takes the length of a function, which ends where its last byte went.
func (p *Predictor) extent(at int) {
	c, f := &p.piece, &p.state.frame
	n := int64(le32(c.b[at:]))
	if n == 0 || n > maxDistance || f.key < 0 {
		return
	}
	last := f.key + n - 1
	l := p.find(f.key, last)
	if is, ok := p.field32(at, uint32(last+l.shift+1-f.to)); ok {
		p.found(l, f.to+int64(is)-1-last)
	}
}
