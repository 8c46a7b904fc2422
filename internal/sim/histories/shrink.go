package histories

import (
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/sim"
)

// maxRelives bounds how many histories Shrink tries.
const maxRelives = 3000

// Shrink looks for a short history that breaks the same law as the one of o: it leaves out
// turns, and then faults, as long as the law stays broken. It returns the shortest one it
// found, relived with its trace.
func (s *Shelf) Shrink(o *Outcome) (*Outcome, error) {
	law, _, _ := strings.Cut(o.Broken[0], ":")
	best := *o.History
	var failure error
	relives := 0
	fails := func(turns []Turn) bool {
		if relives++; relives > maxRelives || failure != nil {
			return false
		}
		h := best
		h.Turns = turns
		got, err := s.Relive(&h, false)
		if failure = err; err != nil || len(got.Broken) == 0 {
			return false
		}
		is, _, _ := strings.Cut(got.Broken[0], ":")
		return is == law
	}
	for before := -1; before != len(best.Turns); {
		before = len(best.Turns)
		best.Turns = fewer(best.Turns, fails)
		best.Turns = simpler(best.Turns, fails)
	}
	if failure != nil {
		return nil, failure
	}
	return s.Relive(&best, true)
}

// fewer leaves out runs of turns, long ones first.
func fewer(turns []Turn, fails func([]Turn) bool) []Turn {
	for n := len(turns) / 2; n > 0; n /= 2 {
		for at := 0; at+n <= len(turns); {
			if rest := slices.Delete(slices.Clone(turns), at, at+n); fails(rest) {
				turns = rest
			} else {
				at += n
			}
		}
	}
	return turns
}

// simplifications take one thing out of a turn.
var simplifications = []func(*Turn){
	func(t *Turn) { t.Net = 0 },
	func(t *Turn) { t.Fail = 0 },
	func(t *Turn) { t.Cut = 0 },
	func(t *Turn) { t.Kind = Nothing },
	func(t *Turn) { t.Doomed = false },
	func(t *Turn) { t.Abrupt = false },
	func(t *Turn) { t.Leave = sim.Returned },
	func(t *Turn) { t.Fate = sim.Lost },
	func(t *Turn) { t.Naps = 0 },
	func(t *Turn) { t.Wait = 1 },
}

// simpler makes each turn as simple as it can be.
func simpler(turns []Turn, fails func([]Turn) bool) []Turn {
	for i := range turns {
		for _, simplify := range simplifications {
			t := turns[i]
			if simplify(&t); t == turns[i] {
				continue
			}
			next := slices.Clone(turns)
			next[i] = t
			if fails(next) {
				turns = next
			}
		}
	}
	return turns
}
