package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// store is a repository in memory.
type store map[string][]byte

func (s store) put(files []File) {
	for _, f := range files {
		s[f.Path] = f.Data
	}
}

func (s store) Metadata(name string, _ int64) ([]byte, error) {
	b, ok := s["metadata/"+name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return b, nil
}

func (s store) MetadataNames() ([]string, error) {
	var names []string
	for path := range s {
		if name, ok := strings.CutPrefix(path, "metadata/"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// site is a repository with a ring that holds all keys, by name.
type site struct {
	store store
	ring  *Ring
	keys  map[string]*PrivateKey
}

func (s *site) key(t testing.TB, name string) *PrivateKey {
	t.Helper()
	if s.keys[name] == nil {
		k, err := Generate(Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		s.keys[name] = k
		s.hold(name)
	}
	return s.keys[name]
}

// hold puts a key into the ring; lose takes it out.
func (s *site) hold(name string) {
	s.ring.Hold(name, s.keys[name])
}

func (s *site) lose(name string) {
	id := s.keys[name].Public.ID
	delete(s.ring.known, id)
	delete(s.ring.opened, id)
}

func (s *site) by(t testing.TB, threshold int, names ...string) Authority {
	t.Helper()
	a := Authority{Threshold: threshold}
	for _, name := range names {
		a.Keys = append(a.Keys, s.key(t, name).Public)
	}
	return a
}

func expires(role string) time.Time {
	if IsOnline(role) {
		return start.Add(7 * 24 * time.Hour)
	}
	return start.Add(365 * 24 * time.Hour)
}

func until() Online {
	return Online{Now: start, Snapshot: expires(RoleSnapshot), Timestamp: expires(RoleTimestamp)}
}

func newTestSite(t testing.TB) *site {
	t.Helper()
	ring, err := OpenRing(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{store: store{}, ring: ring, keys: map[string]*PrivateKey{}}
	plan := Plan{
		Root: s.by(t, 2, "root-1", "root-2", "root-3"), Targets: s.by(t, 1, "targets"),
		Snapshot: s.by(t, 1, "snapshot"), Timestamp: s.by(t, 1, "timestamp"),
		Channels: []Channel{{Name: "stable", Releases: s.by(t, 2, "anna", "ben", "cleo"), Fleet: s.by(t, 1, "fleet")}},
		Names:    map[string]string{}, Now: start, Expires: expires,
	}
	for name, k := range s.keys {
		plan.Names[k.Public.ID] = name
	}
	_, files, err := New(plan, ring)
	if err != nil {
		t.Fatal(err)
	}
	s.store.put(files)
	return s
}

func (s *site) open(t testing.TB) *Set {
	t.Helper()
	set, err := Open(s.store)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestSealReturnsFilesInAnOrderThatMayStopAnywhere(t *testing.T) {
	s := newTestSite(t)
	set := s.open(t)
	if _, err := set.PutTarget("os-stable", "os/stable/pc/1.json", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Seal(s.ring, until(), false); err == nil {
		t.Fatal("a role that is not signed was sealed")
	}
	if err := set.Sign("os-stable", expires("os-stable"), s.ring); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i, f := range files {
		paths = append(paths, f.Path)
		if _, there := s.store[f.Path]; there && i < len(files)-1 {
			t.Errorf("%s replaces a file", f.Path)
		}
		s.store.put(files[:i+1])
		got := s.open(t)
		_, found, err := got.Target("os-stable", "os/stable/pc/1.json")
		if err != nil || found != (i == len(files)-1) {
			t.Errorf("after %s: target found: %t, %v", f.Path, found, err)
		}
	}
	if want := []string{"metadata/2.os-stable.json", "metadata/2.snapshot.json", "metadata/timestamp.json"}; !slices.Equal(paths, want) {
		t.Errorf("got %v, want %v", paths, want)
	}
}

func TestVersionsPassOverWhatAnInterruptedRunLeft(t *testing.T) {
	s := newTestSite(t)
	s.store["metadata/7.os-stable.json"] = []byte("left behind")
	s.store["metadata/9.snapshot.json"] = []byte("left behind")
	set := s.open(t)
	if err := set.Renew("os-stable"); err != nil {
		t.Fatal(err)
	}
	if err := set.Sign("os-stable", expires("os-stable"), s.ring); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	if files[0].Path != "metadata/8.os-stable.json" || files[1].Path != "metadata/10.snapshot.json" {
		t.Errorf("got %s and %s, want versions 8 and 10", files[0].Path, files[1].Path)
	}
}

func TestOpenRefusesEveryFlippedByteOfSignedMetadata(t *testing.T) {
	s := newTestSite(t)
	for path, b := range maps.Clone(s.store) {
		for i := 0; i < len(b); i += 61 {
			bad := bytes.Clone(b)
			bad[i] ^= 4
			s.store[path] = bad
			if set, err := Open(s.store); err == nil && !harmless(t, set, s, path, b) {
				t.Errorf("%s with byte %d (%q) flipped was accepted", path, i, b[i])
			}
		}
		s.store[path] = b
	}
}

// harmless reports whether a changed timestamp or root, which no digest covers, still
// says what was signed: a byte may stand in a signature that is not needed.
func harmless(t *testing.T, set *Set, s *site, path string, original []byte) bool {
	t.Helper()
	same := func(a, b any) bool {
		x, errX := json.Marshal(a)
		y, errY := json.Marshal(b)
		return errX == nil && errY == nil && bytes.Equal(x, y)
	}
	switch path {
	case "metadata/1.root.json":
		want, err := parse[metadata.RootType](original)
		return err == nil && same(set.root.Signed, want.Signed)
	case "metadata/timestamp.json":
		want, err := parse[metadata.TimestampType](original)
		return err == nil && same(set.timestamp.Signed, want.Signed)
	}
	return false
}

func TestARoleIsNotSignedByAnybodyElse(t *testing.T) {
	s := newTestSite(t)
	s.lose("anna")
	s.lose("ben")
	set := s.open(t)
	if err := set.Renew("os-stable"); err != nil {
		t.Fatal(err)
	}
	var threshold *ThresholdError
	for _, err := range []error{set.CanSign("os-stable", s.ring), set.Sign("os-stable", expires("os-stable"), s.ring)} {
		if !errors.As(err, &threshold) || threshold.Have != 1 || threshold.Want != 2 || len(threshold.Missing) != 2 {
			t.Errorf("got %v, want a threshold error with two keys missing", err)
		}
	}
	if _, err := set.Seal(s.ring, until(), false); err == nil {
		t.Error("it was sealed all the same")
	}
}

func TestWithdrawalsAreRemembered(t *testing.T) {
	s := newTestSite(t)
	set := s.open(t)
	for _, name := range []string{"os/stable/pc/1.json", "os/stable/pc/2.json"} {
		if _, err := set.PutTarget("os-stable", name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Withdraw("os-stable", "os/stable/pc/1.json", Withdrawal{Reason: "<bad>", Time: start}); err != nil {
		t.Fatal(err)
	}
	if err := set.Withdraw("os-stable", "os/stable/pc/1.json", Withdrawal{Reason: "again"}); err == nil {
		t.Error("it was withdrawn twice")
	}
	if err := set.Sign("os-stable", expires("os-stable"), s.ring); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.store.put(files)
	set = s.open(t)
	list, err := set.Withdrawn("os-stable")
	if err != nil || len(list) != 1 || list["os/stable/pc/1.json"].Reason != "<bad>" {
		t.Errorf("got %v, %v", list, err)
	}
	if targets, err := set.Targets("os-stable"); err != nil || len(targets) != 1 || targets[0].Name != "os/stable/pc/2.json" {
		t.Errorf("got %v, %v", targets, err)
	}
}

// TestOpenMeetsHostileMetadata: what others wrote into the directory ends in an error.
func TestOpenMeetsHostileMetadata(t *testing.T) {
	for _, b := range []string{"", "null", "{}", "[]", `{"signed":null,"signatures":null}`,
		`{"signed":{"_type":"timestamp","version":1,"meta":{"snapshot.json":null}},"signatures":[]}`,
		`{"signed":{"_type":"root","version":1,"keys":{"a":null},"roles":null},"signatures":[]}`,
		`{"signed":{"_type":"targets","version":1,"targets":{"x":null}},"signatures":[]}`,
		strings.Repeat("[", 100_000)} {
		for _, name := range []string{"1.root.json", "1.targets.json", "1.os-stable.json", "1.snapshot.json", "timestamp.json"} {
			s := newTestSite(t)
			s.store["metadata/"+name] = []byte(b)
			if _, err := Open(s.store); err == nil {
				t.Errorf("%s: %.60q was accepted", name, b)
			}
		}
	}
}

func TestWhatHostsWouldNotTakeIsNotEncoded(t *testing.T) {
	set := newTestSite(t).open(t)
	long := map[string]any{"x": strings.Repeat("x", 64<<10)}
	for role, encode := range map[string]func() ([]byte, error){
		RoleRoot: func() ([]byte, error) { set.root.Signed.UnrecognizedFields = long; return marshal(set.root) },
		RoleTimestamp: func() ([]byte, error) {
			set.timestamp.Signed.UnrecognizedFields = long
			return marshal(set.timestamp)
		},
		RoleSnapshot: func() ([]byte, error) {
			for i := range 3000 { // roles
				set.snapshot.Signed.Meta[fmt.Sprintf("os-%d.json", i)] = metaFile(1, []byte("x"))
			}
			return marshal(set.snapshot)
		},
	} {
		if _, err := encode(); err == nil || !strings.Contains(err.Error(), "hosts take at most") {
			t.Errorf("%s: got %v, want an error about what hosts take", role, err)
		}
	}
	if _, err := marshal(set.targets); err != nil {
		t.Errorf("targets: %v", err)
	}
}
