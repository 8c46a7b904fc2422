package coder

// Probabilities are mixed as logarithms of odds: stretch(p) = ln(p/(1-p)), squash is its
// inverse. Both are tables of integers; logarithms have 8 bits of fraction.
const (
	stretchLimit = 2047 // largest absolute logarithm
	stretchBits  = 12   // precision of a probability that is looked up in stretchTable
)

// squashKnots holds 65536/(1+e^-x), rounded, for x from -8 to 8 in steps of one half.
var squashKnots = [33]uint16{
	22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
	40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
}

// tables are the same for all streams. Each model makes its own, in a fraction of the
// time that clearing its memory takes.
type tables struct {
	squash  [2 * (stretchLimit + 1)]uint16 // in 1/65536, by stretched value + stretchLimit + 1
	stretch [1 << stretchBits]int16        // by the top stretchBits of a probability
	next    [256][2]uint8                  // by state and bit; see makeStates
	odds    [256]uint16                    // by state, to start with
}

func newTables() *tables {
	t := &tables{squash: makeSquash()}
	t.stretch = makeStretch(&t.squash)
	t.next, t.odds = makeStates()
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
