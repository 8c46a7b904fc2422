package coder

// A state is a byte that sums up which bits a context has seen: how many zeros and ones,
// of late, and which came last. State 0 has seen none.

// history is what a state stands for.
type history struct{ zeros, ones, last uint8 }

// stateLimit bounds the larger count, by the smaller one: a context that has always been
// followed by the same bit is worth counting far, others only to judge their odds.
var stateLimit = [6]uint8{32, 24, 12, 8, 6, 5}

// forget holds what is left of a count when the other bit is seen: recent bits weigh more.
var forget = [33]uint8{0, 1, 2, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6}

func (h history) possible() bool {
	small, large := min(h.zeros, h.ones), max(h.zeros, h.ones)
	return int(small) < len(stateLimit) && large <= stateLimit[small]
}

// after returns the history when bit follows it.
func (h history) after(bit uint8) history {
	if bit == 1 {
		h.zeros, h.ones = forget[h.zeros], h.ones+1
	} else {
		h.zeros, h.ones = h.zeros+1, forget[h.ones]
	}
	for !h.possible() {
		if h.zeros > h.ones {
			h.zeros--
		} else {
			h.ones--
		}
	}
	h.last = 0
	if h.zeros > 0 && h.ones > 0 {
		h.last = bit
	}
	return h
}

// makeStates numbers all histories that can be reached, and says which state follows
// each on a zero and on a one, and how probable a one is taken to be at first.
func makeStates() (next [256][2]uint8, odds [256]uint16) {
	number := map[history]uint8{{}: 0}
	found := []history{{}}
	for i := 0; i < len(found); i++ {
		h := found[i]
		odds[i] = uint16((uint32(h.ones)*5 + 2) * 65535 / (uint32(h.zeros+h.ones)*5 + 4))
		for bit := range uint8(2) {
			h := found[i].after(bit)
			if _, known := number[h]; !known {
				number[h] = uint8(len(found))
				found = append(found, h)
			}
			next[i][bit] = number[h]
		}
	}
	if len(found) > 256 {
		panic("coder: more states than a byte can hold")
	}
	return next, odds
}
