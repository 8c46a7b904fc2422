package predict

// levels are by how many bits the keys of each table are cut: the first knows a key
// itself, the others what moved near it, ever less near.
var levels = [...]struct{ cut, bits uint }{{0, 18}, {6, 17}, {10, 15}, {16, 12}}

// shift is an entry of a table: what a key, told by a tag, moved by.
type shift struct {
	tag uint32
	by  int32
}

// shifts are the tables of what was learned. A later lesson replaces an earlier one.
type shifts [len(levels)][]shift

func newShifts() (s shifts) {
	for i, l := range levels {
		s[i] = make([]shift, 1<<l.bits)
	}
	return s
}

func (s *shifts) clear() {
	for _, t := range s {
		clear(t)
	}
}

// entry returns where a table has its entry for key, and the tag it has if it is there.
func (s *shifts) entry(level int, space uint64, key int64) (*shift, uint32) {
	l := levels[level]
	h := (uint64(key)>>l.cut ^ space<<56) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return &s[level][h>>(64-l.bits)], uint32(h) | 1
}

func (s *shifts) learn(space uint64, key, by int64) {
	if by != int64(int32(by)) {
		return
	}
	for level := range levels {
		e, tag := s.entry(level, space, key)
		*e = shift{tag, int32(by)}
	}
}

// exact returns the shift of the key itself, if it is known.
func (s *shifts) exact(space uint64, key int64) (int64, bool) {
	e, tag := s.entry(0, space, key)
	return int64(e.by), e.tag == tag
}

// near returns the shift of the nearest that is known, or 0.
func (s *shifts) near(space uint64, key int64) int64 {
	for level := 1; level < len(levels); level++ {
		if e, tag := s.entry(level, space, key); e.tag == tag {
			return int64(e.by)
		}
	}
	return 0
}

func (s *shifts) find(space uint64, key int64) int64 {
	if by, ok := s.exact(space, key); ok {
		return by
	}
	return s.near(space, key)
}
