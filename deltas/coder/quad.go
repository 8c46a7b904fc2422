package coder

const (
	quadInputs = 4
	// quadBits is the size of the table of each context.
	quadBits = 14
)

// quad codes single bits, each predicted from four contexts.
type quad struct {
	tables   *tables
	counters [quadInputs][1 << quadBits]uint16
	sets     [512]weights
}

func (q *quad) reset(t *tables) {
	q.tables = t
	for i := range q.counters {
		fill(q.counters[i][:])
	}
	fillWeights(q.sets[:])
}

// code codes a bit by its contexts and the set of weights, of 512, for its situation.
func (q *quad) code(rc *rangeCoder, bit int, c0, c1, c2, c3 uint64, set int) int {
	const spread = 0x9e3779b97f4a7c15
	t := q.tables
	p0 := &q.counters[0][c0*spread>>(64-quadBits)]
	p1 := &q.counters[1][c1*spread>>(64-quadBits)]
	p2 := &q.counters[2][c2*spread>>(64-quadBits)]
	p3 := &q.counters[3][c3*spread>>(64-quadBits)]
	x0 := int32(t.stretch[*p0>>4])
	x1 := int32(t.stretch[*p1>>4])
	x2 := int32(t.stretch[*p2>>4])
	x3 := int32(t.stretch[*p3>>4])
	w := &q.sets[set&511]
	one := t.mixed(int64(x0)*int64(w[0]) + int64(x1)*int64(w[1]) + int64(x2)*int64(w[2]) + int64(x3)*int64(w[3]))
	bit = rc.code(bit, one)
	ones := -uint32(bit)
	off := int32(ones&0xffff) - int32(one)
	w[0] += (x0*off + learnHalf) >> learnShift
	w[1] += (x1*off + learnHalf) >> learnShift
	w[2] += (x2*off + learnHalf) >> learnShift
	w[3] += (x3*off + learnHalf) >> learnShift
	t.learn(p0, ones)
	t.learn(p1, ones)
	t.learn(p2, ones)
	t.learn(p3, ones)
	return bit
}
