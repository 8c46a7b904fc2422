package predict

const (
	tables     = 4  // kinds: rows of 4, 8 and 24 bytes, Go's functions
	maxColumns = 13 // of each
	ways       = 4  // of guessing a column
)

// The ways to guess how much a number of a column changed.
const (
	wayNone    = iota
	wayLast    // as much as the one above it
	wayNumber  // as much as this number, or one near it, did in the column
	wayContext // the same, where the number before it was the same
)

// column is what is known of a column: what the last number changed by, and how well
// each way has guessed of late.
type column struct {
	last   int32
	merits [ways]uint16
}

// What a merit grows by, at most, and how fast it fades, as a power of two.
const (
	merit = 1 << 12
	fade  = 3
)

// rows takes what there is as a table, whose rows are of as many bytes as the mode says.
func (p *Predictor) rows(mode Mode, from int) {
	c := &p.piece
	n := [...]int{1, 2, 6}[mode-Rows4]
	table := &p.state.tables[mode-Rows4]
	at := c.first(from, 4)
	i := int((c.old + int64(at)) >> 2 % int64(n))
	before := uint32(0)
	if at >= 4 && at <= len(c.b) {
		before = le32(c.b[at-4:])
	}
	for ; at < len(c.in) && at+4 <= len(c.b); at += 4 {
		p.number(&table[i], at, uint64(mode)<<8|uint64(i), before)
		before = le32(c.b[at:])
		if i++; i == n {
			i = 0
		}
	}
}

// number is a field of 32 bits in a column.
func (p *Predictor) number(k *column, at int, name uint64, before uint32) {
	c := &p.piece
	v := le32(c.b[at:])
	best := 0
	for w := 1; w < ways; w++ {
		if k.merits[w] > k.merits[best] {
			best = w
		}
	}
	here := columns | name
	context := contexts | uint64(before)<<33 | here
	guess := p.way(best, k, v, here, context)
	is, ok := p.field32(at, v+uint32(guess))
	if !ok {
		return
	}
	by := int32(is - v)
	if by != guess || by != 0 {
		for w := range ways {
			k.merits[w] -= k.merits[w] >> fade
			if (w == best && by == guess) || (w != best && p.way(w, k, v, here, context) == by) {
				k.merits[w] += merit >> fade
			}
		}
	}
	k.last = by
	if best <= wayLast && by == guess {
		return // nobody asks the tables, which are slow
	}
	p.shifts.learn(here, int64(v), int64(by))
	p.shifts.learn(context, int64(v), int64(by))
}

// way returns what a number v of column k changes by, if it is guessed that way.
func (p *Predictor) way(w int, k *column, v uint32, here, context uint64) int32 {
	switch w {
	case wayLast:
		return k.last
	case wayNumber:
		by, _ := p.shifts.find(here, int64(v))
		return int32(by)
	case wayContext:
		by, _ := p.shifts.find(context, int64(v))
		return int32(by)
	}
	return 0
}
