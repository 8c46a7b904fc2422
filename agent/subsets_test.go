package agent_test

import (
	"os"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// The exhaustive part of the proof: at every effect of five stories the power goes, and of
// what was not flushed then every subset is what arrived. internal/proof reads what these
// tests log.

// short are those stories. Their images have one segment.
var short = []story{
	{name: "update", behaviour: sim.Healthy, want: "2"},
	{name: "update that fails", behaviour: sim.Unhealthy, want: "1", denied: "2", code: agent.CodeUnhealthy},
	{name: "manual rollback", behaviour: sim.Healthy, rollback: true, want: "1", denied: "2", code: agent.CodeByHand},
	{name: "lost trial", behaviour: sim.Healthy, unlucky: 3, want: "2"},
	{name: "trial of a newer state format", behaviour: sim.Flapping, skew: true, want: "1", denied: "2", code: agent.CodeUnhealthy},
}

// maxUnflushed is how many writes that were not flushed a story has at most at once.
const maxUnflushed = 10

// stride is how far the faults of a test lie apart: further under the race detector, which
// has nothing to look for in a history of one goroutine. make test runs them without it, too.
func stride(apart int) int {
	if raceDetector || testing.Short() {
		return max(23, 5*apart)
	}
	return apart
}

// endsWell fails the test if a history did not, and reports whether its fault happened.
func endsWell(t *testing.T, s story, f fault) (h *history, happened bool) {
	t.Helper()
	h, happened, wrong, err := play(s, f)
	if err != nil {
		t.Fatalf("%s: %v", f, err)
	}
	if len(wrong) > 0 {
		t.Fatalf("%s: %s\n%s", f, strings.Join(wrong, "; "), h.tail())
	}
	return h, happened
}

func TestEverySubsetOfWhatWasNotFlushedEndsWell(t *testing.T) {
	for _, s := range short {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			f := fault{kind: "cut", fate: sim.Chosen}
			cuts, states, most := 0, 0, 0
			for f.n = 1; ; f.n += stride(1) {
				f.subset = 0
				h, happened := endsWell(t, s, f)
				if !happened {
					break
				}
				if most = max(most, h.unflushed); most > maxUnflushed {
					t.Fatalf("%s: %d writes were not flushed, want at most %d", f, most, maxUnflushed)
				}
				for f.subset = 1; f.subset < 1<<h.unflushed; f.subset++ {
					endsWell(t, s, f)
				}
				cuts, states = cuts+1, states+1<<h.unflushed
			}
			t.Logf("subsets of %s: %d cuts, %d states, at most %d writes not flushed", s.name, cuts, states, most)
		})
	}
}

// The power goes at an effect, and again at one after that: at every two of them with
// TWINKEEL_LONG, and in a sample without.
func TestEveryTwoCutsEndWell(t *testing.T) {
	apart := stride(17)
	if os.Getenv("TWINKEEL_LONG") != "" {
		apart = stride(1)
	}
	for _, s := range short {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			pairs := 0
			for _, fate := range []sim.Fate{sim.Lost, sim.Kept} {
				f := fault{kind: "cut", fate: fate}
				for f.n = 1; ; f.n += apart {
					f.second = 0
					if _, happened := endsWell(t, s, f); !happened {
						break
					}
					for f.second = 1; ; f.second += apart {
						if _, happened := endsWell(t, s, f); !happened {
							break
						}
						pairs++
					}
				}
			}
			t.Logf("two cuts of %s: %d pairs, one of %d", s.name, pairs, apart*apart)
		})
	}
}
