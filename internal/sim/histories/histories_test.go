package histories

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

var (
	seedFlag = flag.Uint64("sim.seed", 0, "live through the history of this seed, with its trace")
	hunt     = flag.Int("sim.hunt", 0, "live through at most so many histories, until one breaks a law, and say which")
	count    = flag.Int("sim.histories", 0, "how many random histories to live through; 0: as many as a run of CI does")
)

func TestRandomHistories(t *testing.T) {
	var s Shelf
	n := 300
	if *count > 0 {
		n = *count
	}
	var sum Counts
	failed := map[string]int{}
	for seed := uint64(1); seed <= uint64(n); seed++ {
		if *seedFlag != 0 {
			seed = *seedFlag
		}
		o, err := s.Live(seed)
		if err != nil {
			t.Fatal(seed, err)
		}
		sum.Add(o.Counts)
		if len(o.Broken) > 0 {
			law, _, _ := strings.Cut(o.Broken[0], ":")
			failed[law]++
			t.Errorf("%d: %s", seed, o.Broken[0])
			if *seedFlag != 0 || failed[law] == 1 {
				o, err := s.Shrink(o)
				if err != nil {
					t.Fatal(err)
				}
				t.Error(o.Report())
				if *seedFlag != 0 {
					fmt.Println(strings.Join(o.Trace[max(0, len(o.Trace)-4000):], "\n"))
				}
			}
		}
		if *seedFlag != 0 {
			break
		}
	}
	t.Logf("%+v %v", sum, failed)
}

// TestHunt is how a planted bug is looked for.
func TestHunt(t *testing.T) {
	if *hunt == 0 {
		t.Skip("nothing is hunted")
	}
	var s Shelf
	for seed := uint64(1); seed <= uint64(*hunt); seed++ {
		if law := broken(&s, seed); law != "" {
			fmt.Printf("hunt: seed %d: %s\n", seed, law)
			return
		}
	}
}

// broken returns the first law that a history breaks; a panic breaks one, too.
func broken(s *Shelf, seed uint64) (law string) {
	defer func() {
		if r := recover(); r != nil {
			law = fmt.Sprint("panic: ", r)
		}
	}()
	o, err := s.Live(seed)
	switch {
	case err != nil:
		return err.Error()
	case len(o.Broken) > 0:
		return o.Broken[0]
	}
	return ""
}
