package predict

// maxDistance is how far code is believed to refer, in bytes.
const maxDistance = 1 << 28

// The spaces of keys.
const (
	codes    uint64 = 0       // offsets in the base
	columns  uint64 = 1 << 16 // and the modes and columns of tables
	contexts uint64 = 1 << 32 // and what stands before, in tables
)

// first returns where the first number begins, of size bytes and at a multiple of them
// in the base, that is not before from.
func (c *piece) first(from, size int) int {
	return from + int(-(c.old+int64(from))&int64(size-1))
}

// distance is a field of 32 bits that counts from the offset start of the base, which
// lies in the piece, or next to it.
func (p *Predictor) distance(at int, start int64) {
	v := int64(int32(le32(p.piece.b[at:])))
	if v != 0 && v >= -maxDistance && v <= maxDistance {
		p.refer(at, start)
	}
}

// refer is distance for any value but those that lead before the base. It returns where
// the field leads in the target, or 0 if that is not known.
func (p *Predictor) refer(at int, start int64) int64 {
	c := &p.piece
	key := start + int64(int32(le32(c.b[at:])))
	if key < 0 {
		return 0
	}
	l := p.find(c.old+int64(at), key)
	new := start - c.old + c.new
	is, ok := p.field32(at, uint32(key+l.shift-new))
	if !ok {
		return 0
	}
	to := int64(int32(is)) + new
	p.found(l, to-key)
	return to
}
