package signing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
)

// settled is a host that has seen two publications, and what the repository served
// after the first.
func settled(t *testing.T) (*repo, *host, *repo) {
	t.Helper()
	r := newRepo()
	first := r.Clone()
	h := newHost(t, r)
	mustUse(t, h, r)
	r.PublishRoot()
	r.Publish("targets", "os-stable", "fleet-stable")
	mustUse(t, h, r)
	return r, h, first
}

// damages are the ways in which a file may come back.
func damages(b []byte) map[string][]byte {
	out := map[string][]byte{
		"gone": nil, "empty": {}, "zeros": make([]byte, len(b)), "null": []byte("null"), "object": []byte("{}"),
		"half zeros": append(bytes.Clone(b[:len(b)/2]), make([]byte, len(b)-len(b)/2)...),
		"huge":       bytes.Repeat([]byte("x"), 5<<20), "doubled": append(bytes.Clone(b), b...),
		"large object": append([]byte(`{"signed":"`), append(bytes.Repeat([]byte("x"), 3<<20), `"}`...)...),
	}
	for _, i := range []int{0, len(b) / 3, len(b) / 2, len(b) - 2} {
		flipped := bytes.Clone(b)
		flipped[i] ^= 0x11
		out[fmt.Sprintf("flipped at %d", i)] = flipped
	}
	return out
}

func TestDamagedCacheFileCountsAsAbsent(t *testing.T) {
	r, h, first := settled(t)
	sound := maps.Clone(h.disk.files)
	versions := roleVersions(h)
	for name, content := range sound {
		if strings.HasPrefix(name, "floor.") {
			continue
		}
		for how, b := range damages(content) {
			t.Run(name+" "+how, func(t *testing.T) {
				h.t = t
				h.disk.files = maps.Clone(sound)
				if h.disk.files[name] = b; b == nil {
					delete(h.disk.files, name)
				}
				h.restart()
				if err := use(h, first); err == nil {
					t.Error("a rollback was accepted")
				}
				mustUse(t, h, r)
				if got := roleVersions(h); !maps.Equal(got, versions) {
					t.Errorf("versions: got %v, want %v", got, versions)
				}
				h.restart()
				mustUse(t, h, r)
				if strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, "targets/") && !bytes.Equal(h.disk.files[name], content) {
					t.Error("the file was not restored")
				}
			})
		}
	}
}

func TestTruncatedCacheFileIsRecovered(t *testing.T) {
	r, h, _ := settled(t)
	sound := maps.Clone(h.disk.files)
	for _, name := range []string{"root.json", "timestamp.json", "snapshot.json", "targets.json", "os-stable.json"} {
		size := len(sound[name])
		for n := range size {
			if n > 8 && n < size-8 && n%16 != 0 {
				continue // the middle is more of the same, and each host costs milliseconds
			}
			h.disk.files = maps.Clone(sound)
			h.disk.files[name] = sound[name][:n]
			h.restart()
			if err := use(h, r); err != nil {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
			if !bytes.Equal(h.disk.files[name], sound[name]) {
				t.Fatalf("%s cut at %d: was not restored", name, n)
			}
		}
	}
}

func TestOneGoodFloorCopyIsEnough(t *testing.T) {
	r, h, first := settled(t)
	sound := maps.Clone(h.disk.files)
	for _, name := range []string{"floor.0", "floor.1"} {
		for how, b := range damages(sound[name]) {
			t.Run(name+" "+how, func(t *testing.T) {
				h.t = t
				h.disk.files = maps.Clone(sound)
				if h.disk.files[name] = b; b == nil {
					delete(h.disk.files, name)
				}
				h.restart()
				wantCode(t, use(h, first), signing.Untrusted)
				mustUse(t, h, r)
				// What the lost copy knew is known again from the metadata.
				mustBeFloored(t, h)
				for n := range h.disk.files {
					if strings.HasSuffix(n, ".json") {
						delete(h.disk.files, n)
					}
				}
				h.restart()
				if err := use(h, first); err == nil {
					t.Error("a rollback was accepted")
				}
			})
		}
	}
}

func TestLostFloorsRefuseLoudlyUntilReset(t *testing.T) {
	r, h, _ := settled(t)
	sound := maps.Clone(h.disk.files)
	for how, b := range damages(sound["floor.0"]) {
		t.Run(how, func(t *testing.T) {
			h.t = t
			h.disk.files = maps.Clone(sound)
			for _, name := range []string{"floor.0", "floor.1"} {
				if h.disk.files[name] = b; b == nil {
					delete(h.disk.files, name)
				}
			}
			for range 2 {
				h.restart()
				err := h.refresh(r)
				wantCode(t, err, signing.Untrusted)
				if !strings.Contains(err.Error(), "floor.0") || !strings.Contains(err.Error(), "reset") {
					t.Errorf("the text does not say what to do: %v", err)
				}
				_, err = h.target(r, directiveName)
				wantCode(t, err, signing.Untrusted)
				if h.State().Problem == "" {
					t.Error("state names no problem")
				}
				if _, err := h.Cached(directiveName, 1<<20); err != nil {
					t.Errorf("cached: %v", err)
				}
			}
			if err := h.Reset(); err != nil {
				t.Fatal(err)
			}
			if len(h.disk.files) != 0 || h.State().Problem != "" {
				t.Errorf("after reset: files %q, problem %q", slices.Sorted(maps.Keys(h.disk.files)), h.State().Problem)
			}
			mustUse(t, h, r)
		})
	}
}

func TestFloorsFromANewerAgentKeepTheirUnknownMembers(t *testing.T) {
	r, h, _ := settled(t)
	for _, name := range []string{"floor.0", "floor.1"} {
		_, body, _ := bytes.Cut(h.disk.files[name], []byte("\n"))
		body = bytes.Replace(body, []byte(`{`), []byte(`{"epochs":{"os":7},`), 1)
		h.disk.files[name] = []byte(sum(string(body)) + "\n" + string(body))
	}
	h.restart()
	r.Publish("os-stable")
	mustUse(t, h, r)
	for _, name := range []string{"floor.0", "floor.1"} {
		if !bytes.Contains(h.disk.files[name], []byte(`"epochs":{"os":7}`)) {
			t.Errorf("%s: lost what it did not know: %s", name, h.disk.files[name])
		}
	}
}

// operate is a life with two publications, a reset and another refresh; it ends at
// the first error, and says whether the reset had begun.
func operate(h *host, first, second signing.Source) (reset bool, err error) {
	if err := use(h, first); err != nil {
		return false, err
	}
	if err := use(h, second); err != nil {
		return false, err
	}
	if err := h.Reset(); err != nil {
		return true, err
	}
	return true, use(h, second)
}

// The power goes at every durable effect in turn, landed or not. Whatever is left, the
// host never goes below what it showed before, and cures itself.
func TestPowerCutAtEveryEffect(t *testing.T) {
	second, model, first := settled(t)
	model.disk = newDisk()
	model.restart()
	if _, err := operate(model, first, second); err != nil {
		t.Fatal(err)
	}
	total := model.disk.effects
	if total < 30 {
		t.Fatalf("only %d effects: the scenario lost its meaning", total)
	}
	for cut := 1; cut <= total; cut++ {
		for _, lands := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d lands %v", cut, lands), func(t *testing.T) {
				h := newHost(t, first)
				h.disk.cutAt, h.disk.lands = cut, lands
				reset, err := operate(h, first, second)
				if h.disk.effects >= cut && h.disk.effects < total && err == nil {
					t.Fatal("the cut went unnoticed")
				}
				if err != nil && !errors.Is(err, errPower) {
					t.Fatalf("got %v, want the power cut", err)
				}
				before := roleVersions(h)
				h.restart()
				for role, v := range roleVersions(h) {
					if v < before[role] && !reset {
						t.Errorf("%s: version: got %d, was %d", role, v, before[role])
					}
				}
				if !reset {
					mustBeFloored(t, h)
				}
				if before["timestamp"] > 2 && !reset {
					if err := use(h, first); err == nil {
						t.Error("a rollback was accepted after the cut")
					}
				}
				if h.State().Problem != "" {
					if err := h.Reset(); err != nil {
						t.Fatal(err)
					}
				}
				mustUse(t, h, second)
				wantCode(t, use(h, first), signing.Untrusted)
				h.restart()
				mustUse(t, h, second)
			})
		}
	}
}

// Every change fails in turn, in the sync of its directory: it is seen, another process
// goes on with it, and the power takes it back. The floors outlive that.
func TestAFileThatIsSeenAndDoesNotLastIsNotReliedOn(t *testing.T) {
	for n := 1; ; n++ {
		_, _, repo := settled(t)
		h := newHost(t, repo)
		h.disk.cutAt, h.disk.lands, h.disk.once = n, true, true
		if use(h, repo) == nil {
			return
		}
		seen := maps.Clone(h.disk.files)
		h.restart()
		// No further than the root, whose floor is as it was.
		wantCode(t, use(h, failing(repo, "metadata/timestamp.json", errors.New("503"))), signing.Unavailable)
		for name, b := range seen {
			if was, had := h.disk.before[name]; bytes.Equal(b, h.disk.files[name]) && !bytes.Equal(b, was) {
				if delete(h.disk.files, name); had {
					h.disk.files[name] = was
				}
			}
		}
		h.restart()
		if p := h.State().Problem; p != "" {
			t.Fatalf("change %d did not last: %s", n, p)
		}
		mustBeFloored(t, h)
		mustUse(t, h, repo)
	}
}

// Every change of a reset fails in turn, landed or not, and the process goes on. What is
// shown to it then is kept as before: another process has floors for it.
func TestAResetThatFailsLeavesFloorsForWhatFollows(t *testing.T) {
	for n := 1; ; n++ {
		for _, lands := range []bool{false, true} {
			repo, h, _ := settled(t)
			h.disk.restart()
			h.disk.cutAt, h.disk.lands, h.disk.once = n, lands, true
			if h.Reset() == nil {
				return
			}
			mustUse(t, h, repo)
			h.restart()
			if p := h.State().Problem; p != "" {
				t.Fatalf("change %d failed, landed %v: another process: %s", n, lands, p)
			}
			mustBeFloored(t, h)
			mustUse(t, h, repo)
		}
	}
}

// mustBeFloored fails if a file on h's disk is newer than the floors say.
func mustBeFloored(t *testing.T, h *host) {
	t.Helper()
	var floor struct {
		Sequence uint64
		Root     int64
		Roles    map[string]struct{ Version int64 }
	}
	newest := floor
	for _, name := range []string{"floor.0", "floor.1"} {
		if _, body, ok := bytes.Cut(h.disk.files[name], []byte("\n")); ok {
			next := floor
			if err := json.Unmarshal(body, &next); err == nil && next.Sequence > newest.Sequence {
				newest = next
			}
		}
	}
	for name, edge := range map[string]string{"root": "", "timestamp": "root/timestamp", "snapshot": "root/snapshot",
		"targets": "root/targets", "os-stable": "targets/os-stable", "fleet-stable": "targets/fleet-stable"} {
		var file struct{ Signed struct{ Version int64 } }
		b, ok := h.disk.files[name+".json"]
		if !ok {
			continue
		}
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		have := newest.Roles[edge].Version
		if name == "root" {
			have = newest.Root
		}
		if file.Signed.Version > have {
			t.Errorf("%s: version %d is on disk, the floor is %d", name, file.Signed.Version, have)
		}
	}
}

func TestFullOrReadOnlyDiskIsAnErrorWithoutACode(t *testing.T) {
	r, h, _ := settled(t)
	r.Publish("os-stable")
	h.disk.broken = errors.New("no space left on device")
	h.restart()
	err := use(h, r)
	if !errors.Is(err, h.disk.broken) || signing.Code(err) != "" {
		t.Errorf("got %v (code %q), want the disk's error", err, signing.Code(err))
	}
	if _, err := h.Cached(directiveName, 1<<20); err != nil {
		t.Errorf("cached: %v", err)
	}
	h.disk.broken = nil
	mustUse(t, h, r)
}
