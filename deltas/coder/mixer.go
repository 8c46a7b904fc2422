package coder

const (
	// maxInputs is how many predictions a mixer can mix.
	maxInputs = 8
	// weightOne is the weight that passes a prediction on as it is.
	weightOne = 1 << 16
	// learnShift slows down how fast weights follow errors.
	learnShift = 15
	learnHalf  = 1 << (learnShift - 1)
)

// weights of a mixer, one per prediction.
type weights [maxInputs]int32

// mixer makes one probability of many. It adds the stretched predictions, weighted, and
// moves the weights towards those that were right.
type mixer struct {
	tables *tables
	in     weights // stretched predictions for the coming bit
	sets   []weights
	set    *weights // the weights in use
	one    uint32   // the mixed probability
}

func newMixer(t *tables, sets, inputs int) mixer {
	m := mixer{tables: t, sets: make([]weights, sets)}
	for i := range m.sets {
		for j := range inputs {
			m.sets[i][j] = weightOne / 4
		}
	}
	return m
}

// mix sets the probability that the predictions make, by the weights numbered set.
func (m *mixer) mix(set int) {
	m.set = &m.sets[set]
	var sum int64
	for i, w := range m.set {
		sum += int64(w) * int64(m.in[i])
	}
	m.one = uint32(m.tables.squash[limit(sum>>16)+stretchLimit+1])
}

// learn moves the weights, now that the bit is known.
func (m *mixer) learn(bit int) {
	off := int32(bit)<<16 - int32(m.one) // error, in 1/65536
	for i, x := range m.in {
		m.set[i] += (x*off + learnHalf) >> learnShift
	}
}

// refine corrects a probability by what has followed such probabilities in a context:
// a curve over stretched probabilities, learned point by point.
type refine struct {
	curves []uint16
	at     int
}

// curvePoints divides -stretchLimit to stretchLimit in steps of 128.
const curvePoints = 33

func newRefine(contexts int) refine {
	r := refine{curves: make([]uint16, contexts*curvePoints)}
	for i := range r.curves {
		r.curves[i] = squashKnots[i%curvePoints]
	}
	return r
}

// apply returns the corrected probability of stretched x in a context.
func (r *refine) apply(x int32, context int) uint32 {
	pos := uint32(x + stretchLimit + 1)
	part := pos & 127
	i := context*curvePoints + int(pos>>7)
	r.at = i + int(part>>6)
	return (uint32(r.curves[i])*(128-part) + uint32(r.curves[i+1])*part) >> 7
}

// learn moves the nearer point, now that the bit is known.
func (r *refine) learn(bit int) {
	approach(&r.curves[r.at], bit, 6)
}

// fill makes all of p one half.
func fill(p []uint16) {
	for i := range p {
		p[i] = 1 << (probabilityBits - 1)
	}
}

// codeBit codes a bit with a probability that learns from it alone.
func codeBit(rc *rangeCoder, p *uint16, bit int, rate uint) int {
	bit = rc.code(bit, legal(uint32(*p)))
	approach(p, bit, rate)
	return bit
}

// approach moves a probability by 1/2^rate of its distance towards a bit.
func approach(p *uint16, bit int, rate uint) {
	*p += uint16((int32(-bit)&65535 - int32(*p)) >> rate)
}

// legal keeps a probability within what the range coder takes.
func legal(one uint32) uint32 { return min(max(one, 16), 65520) }

// limit keeps a mix within what the table squash knows.
func limit(x int64) int32 { return int32(min(max(x, -stretchLimit), stretchLimit)) }
