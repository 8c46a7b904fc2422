package signing_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/signing"
)

// maxLives bounds the test, of which one life costs a tenth of a second and, with the
// race detector, more than one. TWINKEEL_LONG=1 lifts it.
const maxLives = 20

// A host lives through any mixture of publications, withheld and old repositories, lost
// and damaged files, restarts and power cuts. What it has once used it never goes
// below, and given the honest repository it always comes back by itself.
func TestNoHistoryMakesAHostGoBack(t *testing.T) {
	lives := 0
	rapid.Check(t, func(rt *rapid.T) {
		if lives++; lives > maxLives && os.Getenv("TWINKEEL_LONG") == "" {
			return
		}
		r := newRepo()
		l := &life{repo: r, past: []map[string][]byte{r.Files()}, host: newHost(t, r), best: map[string]int64{}}
		rt.Repeat(rapid.StateMachineActions(l))
	})
}

// life is a host and its repository; each exported method but Check is something that
// may happen.
type life struct {
	repo *repo
	past []map[string][]byte // the repository after each publication
	host *host
	best map[string]int64 // the highest version of each role that was used

	floorHurt bool
}

// visit uses src, and holds the host to what it has used before.
func (l *life) visit(rt *rapid.T, src signing.Source) error {
	if err := use(l.host, src); err != nil {
		return err
	}
	for role, v := range roleVersions(l.host) {
		if v < l.best[role] {
			rt.Fatalf("%s: version: got %d, was %d", role, v, l.best[role])
		}
		l.best[role] = v
	}
	return nil
}

// metadataFile draws a file of the disk that is no floor, or "".
func (l *life) metadataFile(rt *rapid.T) string {
	names := slices.Sorted(maps.Keys(l.host.disk.files))
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "floor.") })
	if len(names) == 0 {
		return ""
	}
	return rapid.SampledFrom(names).Draw(rt, "file")
}

func (l *life) Publish(rt *rapid.T) {
	roles := rapid.SampledFrom([]string{"targets", "os-stable", "fleet-stable"})
	l.repo.Publish(rapid.SliceOfDistinct(roles, rapid.ID[string]).Draw(rt, "roles")...)
	l.past = append(l.past, l.repo.Files())
}

func (l *life) PublishRoot(*rapid.T) {
	l.repo.PublishRoot()
	l.past = append(l.past, l.repo.Files())
}

func (l *life) Poll(rt *rapid.T) { _ = l.visit(rt, l.repo) }

func (l *life) PollOfAnEarlierDay(rt *rapid.T) {
	old := l.repo.Clone()
	old.SetFiles(l.past[rapid.IntRange(0, len(l.past)-1).Draw(rt, "day")])
	_ = l.visit(rt, old)
}

func (l *life) PollWithOneFileWithheld(rt *rapid.T) {
	names := slices.Sorted(maps.Keys(l.repo.Files()))
	_ = l.visit(rt, without(l.repo, rapid.SampledFrom(names).Draw(rt, "withheld")))
}

func (l *life) PowerCut(rt *rapid.T) {
	d := l.host.disk
	d.effects, d.cutAt, d.lands = 0, rapid.IntRange(1, 12).Draw(rt, "at"), rapid.Bool().Draw(rt, "lands")
	_ = l.visit(rt, l.repo)
	l.host.restart()
}

func (l *life) Restart(*rapid.T) { l.host.restart() }

func (l *life) LoseAFile(rt *rapid.T) {
	delete(l.host.disk.files, l.metadataFile(rt))
	l.host.restart()
}

func (l *life) DamageAFile(rt *rapid.T) {
	files := l.host.disk.files
	if n := l.metadataFile(rt); len(files[n]) > 0 {
		b := slices.Clone(files[n])
		b[rapid.IntRange(0, len(b)-1).Draw(rt, "byte")] ^= 1
		files[n] = b
	}
	l.host.restart()
}

// DamageAFloor hurts one copy, once, while the metadata is whole: two faults at once
// may cost the newest step.
func (l *life) DamageAFloor(rt *rapid.T) {
	if len(l.best) == 0 || l.floorHurt || l.visit(rt, l.repo) != nil {
		return
	}
	l.floorHurt = true
	l.host.disk.files[fmt.Sprintf("floor.%d", rapid.IntRange(0, 1).Draw(rt, "copy"))] = []byte("damaged")
	l.host.restart()
	if err := l.visit(rt, l.repo); err != nil {
		rt.Fatalf("after the loss of one floor copy: %v", err)
	}
}

// Check runs between all of these.
func (l *life) Check(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "check") == 0 {
		if err := l.visit(rt, l.repo); err != nil {
			rt.Fatalf("the honest repository: %v", err)
		}
	}
}
