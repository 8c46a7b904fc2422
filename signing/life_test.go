package signing_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/signing"
)

// A host lives through any mixture of publications, withheld and old repositories, lost
// and damaged files, restarts and power cuts. What it has once used it never goes
// below, and given the honest repository it always comes back by itself.
func TestNoHistoryMakesAHostGoBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRepo()
		past := []map[string][]byte{r.Files()}
		h := newHost(t, r)
		best := map[string]int64{}
		visit := func(src signing.Source) error {
			err := use(h, src)
			if err != nil {
				return err
			}
			for role, v := range roleVersions(h) {
				if v < best[role] {
					rt.Fatalf("%s: version: got %d, was %d", role, v, best[role])
				}
				best[role] = v
			}
			return nil
		}
		restart := func() {
			h.disk.restart()
			c, err := signing.Open(h.config())
			if err != nil {
				rt.Fatalf("open: %v", err)
			}
			h.Client = c
		}
		pick := func(keep func(string) bool) string {
			names := slices.Sorted(maps.Keys(h.disk.files))
			names = slices.DeleteFunc(names, func(n string) bool { return !keep(n) })
			if len(names) == 0 {
				return ""
			}
			return rapid.SampledFrom(names).Draw(rt, "file")
		}
		metadataFile := func(n string) bool { return !strings.HasPrefix(n, "floor.") }
		floorHurt := false
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				roles := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"targets", "os-stable", "fleet-stable"}), rapid.ID[string]).Draw(rt, "roles")
				r.Publish(roles...)
				past = append(past, r.Files())
			},
			"new root": func(*rapid.T) { r.PublishRoot(); past = append(past, r.Files()) },
			"poll":     func(*rapid.T) { _ = visit(r) },
			"old poll": func(rt *rapid.T) {
				old := r.Clone()
				old.SetFiles(past[rapid.IntRange(0, len(past)-1).Draw(rt, "day")])
				_ = visit(old)
			},
			"partial poll": func(rt *rapid.T) {
				hidden := rapid.SampledFrom(slices.Sorted(maps.Keys(r.Files()))).Draw(rt, "hidden")
				_ = visit(without(r, hidden))
			},
			"power cut": func(rt *rapid.T) {
				h.disk.effects, h.disk.cutAt = 0, rapid.IntRange(1, 12).Draw(rt, "at")
				h.disk.lands = rapid.Bool().Draw(rt, "lands")
				_ = visit(r)
				restart()
			},
			"restart": func(*rapid.T) { restart() },
			"lose": func(rt *rapid.T) {
				delete(h.disk.files, pick(metadataFile))
				restart()
			},
			"damage": func(rt *rapid.T) {
				if n := pick(metadataFile); n != "" && len(h.disk.files[n]) > 0 {
					b := slices.Clone(h.disk.files[n])
					b[rapid.IntRange(0, len(b)-1).Draw(rt, "byte")] ^= 1
					h.disk.files[n] = b
				}
				restart()
			},
			"damage a floor": func(rt *rapid.T) {
				// One copy once, with the metadata whole: two faults at once may cost the newest step.
				if len(best) == 0 || floorHurt || visit(r) != nil {
					return
				}
				floorHurt = true
				h.disk.files[fmt.Sprintf("floor.%d", rapid.IntRange(0, 1).Draw(rt, "copy"))] = []byte("damaged")
				restart()
				if err := visit(r); err != nil {
					rt.Fatalf("after the loss of one floor copy: %v", err)
				}
			},
			"": func(rt *rapid.T) {
				if h.disk.cutAt == 0 && rapid.IntRange(0, 3).Draw(rt, "check") == 0 {
					if err := visit(r); err != nil {
						rt.Fatalf("the honest repository: %v", err)
					}
				}
			},
		})
	})
}
