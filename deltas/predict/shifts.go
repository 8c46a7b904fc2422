package predict

// levels are by how many bits the keys of each table are cut: the first knows a key
// itself, the others what moved near it, ever less near. The last is not of shifts: it
// tells how far moves are to be trusted around a key.
var levels = [...]struct{ cut, bits uint }{{0, 18}, {6, 17}, {10, 15}, {16, 12}, {14, 12}}

const (
	nearLevels = len(levels) - 1 // those of shifts
	trustLevel = len(levels) - 1

	tagBits = 24
	maxAge  = 1<<(32-tagBits) - 1
)

// shift is an entry of a table: what a key, told by a tag, moved by. The top bits of
// the tag are the age of the tables in which it was written.
type shift struct {
	tag uint32
	by  int32
}

// shifts are the tables of what was learned. A later lesson replaces an earlier one.
type shifts struct {
	tables [len(levels)][]shift
	age    uint32 // 1 to maxAge: entries of another are as if they were not there
	trial  bool   // whether changes are noted, to be undone
	undo   []change
}

// change is an entry as it was.
type change struct {
	entry *shift
	was   shift
}

func newShifts() *shifts {
	s := &shifts{age: 1}
	for i, l := range levels {
		s.tables[i] = make([]shift, 1<<l.bits)
	}
	return s
}

// forget empties the tables, without touching them but once in a while.
func (s *shifts) forget() {
	if s.age++; s.age > maxAge {
		s.age = 1
		for _, t := range s.tables {
			clear(t)
		}
	}
}

// entry returns where a table has its entry for key, and the tag it has if it is there.
func (s *shifts) entry(level int, space uint64, key int64) (*shift, uint32) {
	l := levels[level]
	h := (uint64(key)>>l.cut + space*0xa0761d6478bd642f) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return &s.tables[level][h>>(64-l.bits)], uint32(h)&(1<<tagBits-1) | s.age<<tagBits
}

func (s *shifts) set(e *shift, v shift) {
	if s.trial {
		s.undo = append(s.undo, change{e, *e})
	}
	*e = v
}

// rollback takes back what was learned in the trial.
func (s *shifts) rollback() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		*s.undo[i].entry = s.undo[i].was
	}
	s.undo, s.trial = s.undo[:0], false
}

func (s *shifts) learn(space uint64, key, by int64) {
	if by != int64(int32(by)) {
		return
	}
	for level := range nearLevels {
		e, tag := s.entry(level, space, key)
		if v := (shift{tag, int32(by)}); *e != v {
			s.set(e, v)
		}
	}
}

// find returns the shift of the key, or of the nearest that is known, and whether any is.
func (s *shifts) find(space uint64, key int64) (int64, bool) {
	for level := range nearLevels {
		if e, tag := s.entry(level, space, key); e.tag == tag {
			return int64(e.by), true
		}
	}
	return 0, false
}

// maxTrust is how often in a row moves may be wrong, or right, and be remembered for it.
const maxTrust = 4

// trusted reports whether, around the key, moves say more than what was learned.
func (s *shifts) trusted(key int64) bool {
	e, tag := s.entry(trustLevel, codes, key)
	return e.tag != tag || e.by >= 0
}

// trust notes whether moves were right, around the key, where what was learned was not.
func (s *shifts) trust(key int64, right bool) {
	e, tag := s.entry(trustLevel, codes, key)
	by := int32(0)
	if e.tag == tag {
		by = e.by
	}
	if right {
		by = min(by+1, maxTrust)
	} else {
		by = max(by-1, -maxTrust)
	}
	s.set(e, shift{tag, by})
}
