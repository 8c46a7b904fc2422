package histories

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seedFlag = flag.Uint64("sim.seed", 0, "live through the history of this seed, shrink it if it breaks a law, and print its trace")
	hunt     = flag.Int("sim.hunt", 0, "live through at most so many histories, until one breaks a law, and say which")
	count    = flag.Uint64("sim.histories", 0, "how many random histories to live through; 0: as many as a run of CI does")
)

// wanted is how many histories to live through.
func wanted() uint64 {
	switch {
	case *count > 0:
		return *count
	case raceDetector:
		return 100 // there is nothing to find for it: a history has one goroutine
	case os.Getenv("CI") == "":
		return 500
	}
	return 20000
}

// No law is broken in any of many random histories.
func TestRandomHistories(t *testing.T) {
	if *hunt > 0 || *seedFlag > 0 {
		t.Skip("something else was asked for")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // histories are short and leave nothing behind
	var s Shelf
	var mu sync.Mutex
	var sum Counts
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := next.Add(1); seed <= wanted() && !t.Failed(); seed = next.Add(1) {
				o, err := s.Live(seed)
				if err != nil {
					t.Error(seed, err)
					return
				}
				mu.Lock()
				sum.Add(o.Counts)
				mu.Unlock()
				if len(o.Broken) > 0 {
					t.Errorf("seed %d: %s; replay with -sim.seed=%d\n%s", seed, o.Broken[0], seed, shortest(t, &s, o))
				}
			}
		})
	}
	workers.Wait()
	t.Logf("%+v", sum)
}

// shortest describes the shortest history that breaks the same law.
func shortest(t *testing.T, s *Shelf, o *Outcome) string {
	t.Helper()
	short, err := s.Shrink(o)
	if err != nil {
		t.Error(err)
		return ""
	}
	return short.Report()
}

// Boots that are long enough for one checkpoint bring an update to its end.
func TestUpdatesProgressWhileThePowerFlaps(t *testing.T) {
	var s Shelf
	for _, repository := range []int{0, 2, 11} {
		broken, err := s.Flap(repository, 60, 60)
		if err != nil {
			t.Fatal(err)
		}
		for _, law := range broken {
			t.Errorf("repository %d: %s", repository, law)
		}
	}
}

// A seed gives the same history every time.
func TestAHistoryReplaysExactly(t *testing.T) {
	var s Shelf
	first, err := s.Live(7)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Relive(first.History, true)
	if err != nil {
		t.Fatal(err)
	}
	if first.Counts != again.Counts {
		t.Errorf("got %+v and %+v", first.Counts, again.Counts)
	}
}

func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("-sim.seed names no history")
	}
	var s Shelf
	o, err := s.Live(*seedFlag)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Broken) == 0 {
		t.Logf("no law is broken\n%s", o.Report())
		return
	}
	short, err := s.Shrink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("%s\n%s", strings.Join(short.Trace, "\n"), short.Report())
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
