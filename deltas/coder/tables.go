package coder

// Probabilities are mixed as logarithms of odds: stretch(p) = ln(p/(1-p)), squash is its
// inverse. Both are tables of integers; logarithms have 8 bits of fraction.
const (
	stretchLimit = 2047 // largest absolute logarithm
	stretchBits  = 12   // precision of a probability that is looked up in tables.stretch
)

// squashKnots holds 65536/(1+e^-x), rounded, for x from -8 to 8 in steps of one half.
var squashKnots = [33]uint16{
	22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
	40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
}

// A counter is 12 bits of probability that the next bit is one, and below them 4 bits: how
// many bits it has learned from, up to 15. The fewer they are, the more one counts.
const (
	countMask = 15
	evenOdds  = 1 << 15 // a counter that has learned nothing, or a plain probability
	rateBits  = 14
)

// tables are the same for all streams. Each model makes its own, in a fraction of the
// time that clearing its memory takes.
type tables struct {
	squash  [2 * (stretchLimit + 1)]uint16 // in 1/65536, by stretched value + stretchLimit + 1
	stretch [1 << stretchBits]int16        // by the top stretchBits of a probability
	rate    [countMask + 1]int32           // by a counter's count, in 1/2^rateBits
}

func newTables() *tables {
	t := &tables{squash: makeSquash()}
	t.stretch = makeStretch(&t.squash)
	for n := range t.rate {
		t.rate[n] = (1 << rateBits) * 10 / int32(10*n+16) // 1/(n+1.6)
	}
	t.rate[countMask] = (1 << rateBits) / 13
	return t
}

// makeSquash draws straight lines between the knots.
func makeSquash() (t [2 * (stretchLimit + 1)]uint16) {
	for i := range t {
		knot, part := i/128, uint32(i%128)
		a, b := uint32(squashKnots[knot]), uint32(squashKnots[knot+1])
		t[i] = uint16((a*(128-part) + b*part) / 128)
	}
	return t
}

// makeStretch inverts squash.
func makeStretch(squash *[2 * (stretchLimit + 1)]uint16) (t [1 << stretchBits]int16) {
	x := -stretchLimit
	for i := range t {
		p := uint16(i<<(16-stretchBits) | 1<<(15-stretchBits))
		for x < stretchLimit && squash[x+stretchLimit+1] < p {
			x++
		}
		t[i] = int16(x)
	}
	return t
}

// learn moves a counter towards a bit: all of ones is set for a one, none for a zero.
func (t *tables) learn(p *uint16, ones uint32) {
	c := int32(*p)
	n := c & countMask
	c += (int32(ones&0xffff) - c) * t.rate[n] >> rateBits
	*p = uint16(c&^countMask | min(n+1, countMask))
}

// mixed returns the probability, in 1/65536, that a sum of weighted, stretched
// probabilities stands for.
func (t *tables) mixed(sum int64) uint32 {
	x := min(max(sum>>weightBits, -stretchLimit), stretchLimit)
	return uint32(t.squash[(x+stretchLimit+1)&(2*stretchLimit+1)])
}

const (
	// weightBits is the precision of a weight: 1 << weightBits passes a prediction on as it is.
	weightBits = 16
	// learnShift slows down how fast weights follow errors.
	learnShift = 14
	learnHalf  = 1 << (learnShift - 1)
	// firstWeight is what all weights start with.
	firstWeight = 19660
)

// weights of predictions that are mixed; a set has room for the most there are, so that
// it takes half a cache line.
type weights [8]int32

// fill makes all of p counters, or probabilities, that have learned nothing.
func fill(p []uint16) {
	for i := range p {
		p[i] = evenOdds
	}
}

// fillWeights makes all sets alike.
func fillWeights(sets []weights) {
	for i := range sets {
		for j := range sets[i] {
			sets[i][j] = firstWeight
		}
	}
}

// hash spreads a value; salt tells values of different kinds apart.
func hash(v, salt uint64) uint32 {
	v = (v + salt*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	v ^= v >> 32
	return uint32(v * 0xd6e8feb86659fd93 >> 32)
}
