package mutants

import (
	"path/filepath"
	"sync/atomic"
	"testing"
)

// histories is how many may pass before a planted bug has to be found.
const histories = 5000

// wanted is how many planted bugs there are at least that nothing masks.
const wanted = 20

// A mutant whose text has moved is found out at once, not after the hunt.
func TestTheTableFollowsTheCode(t *testing.T) {
	if _, err := plant("../../..", t.TempDir()); err != nil {
		t.Error(err)
	}
}

// Each planted bug breaks a law within a few thousand histories; without one, none does.
func TestEveryPlantedBugIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the simulator once more")
	}
	tests := filepath.Join(t.TempDir(), "histories.test")
	if err := Build("../../..", "./internal/sim/histories", tests); err != nil {
		t.Fatal(err)
	}
	var counted atomic.Int32
	t.Run("hunt", func(t *testing.T) {
		for _, m := range Table() {
			if m.Masked != "" {
				t.Logf("%s is not hunted, it is masked: %s", m.Name, m.Masked)
				continue
			}
			if m.Rare {
				t.Logf("%s is rare: left to make proof", m.Name)
				continue
			}
			t.Run(m.Name, func(t *testing.T) {
				t.Parallel() // each hunt is a process of its own
				f, err := Hunt(tests, m, histories)
				switch {
				case err != nil:
					t.Error(err)
				case f.Seed == 0:
					t.Errorf("it was not found in %d histories", histories)
				default:
					counted.Add(1)
					t.Logf("found by seed %d: %s", f.Seed, f.Law)
				}
			})
		}
	})
	if counted.Load() < wanted {
		t.Errorf("got %d planted bugs, want at least %d", counted.Load(), wanted)
	}
}
