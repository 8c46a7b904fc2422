package publisher

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// propose makes a proposal with the keys in the ring, through its file form.
func (s *site) propose(t testing.TB, change func(*Set) error) *Proposal {
	t.Helper()
	set := s.open(t)
	if err := change(set); err != nil {
		t.Fatal(err)
	}
	p, err := set.Propose(s.open(t), s.ring, start, expires)
	if err != nil {
		t.Fatal(err)
	}
	return roundTrip(t, p)
}

func roundTrip(t testing.TB, p *Proposal) *Proposal {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseProposal(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.Encode()
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("a proposal changed on its way through a file: %v", err)
	}
	return q
}

func reached(t testing.TB, p *Proposal) []bool {
	t.Helper()
	list, err := p.Requirements()
	if err != nil {
		t.Fatal(err)
	}
	var r []bool
	for _, q := range list {
		r = append(r, q.Reached)
	}
	return r
}

func TestANewRootNeedsTheOldAndTheNewThreshold(t *testing.T) {
	s := newTestSite(t)
	four, five := s.key(t, "root-4"), s.key(t, "root-5")
	for name := range s.keys {
		if strings.HasPrefix(name, "root-") {
			s.lose(name)
		}
	}
	// 2 of {1,2,3} becomes 3 of {2,3,4,5}, in one root.
	p := s.propose(t, func(set *Set) error {
		return errors.Join(
			set.Change(AuthorityChange{Role: RoleRoot, Add: &four.Public, Name: "root-4"}),
			set.Change(AuthorityChange{Role: RoleRoot, Add: &five.Public, Name: "root-5"}),
			set.Change(AuthorityChange{Role: RoleRoot, Remove: s.keys["root-1"].Public.ID, Threshold: 3}))
	})
	steps := []struct {
		key  string
		want []bool // old, new
	}{{"root-1", []bool{false, false}}, {"root-2", []bool{true, false}}, {"root-4", []bool{true, false}}, {"root-4", []bool{true, false}}, {"root-5", []bool{true, true}}}
	for _, step := range steps {
		var threshold *ThresholdError
		if _, err := s.open(t).AdoptRoot(p, s.ring, start, until()); !errors.As(err, &threshold) {
			t.Fatalf("before %s signed: got %v, want a threshold error", step.key, err)
		}
		if err := p.Sign(s.keys[step.key]); err != nil {
			t.Fatal(err)
		}
		p = roundTrip(t, p)
		if got := reached(t, p); !slices.Equal(got, step.want) {
			t.Fatalf("after %s signed: got %v, want %v", step.key, got, step.want)
		}
	}
	if err := p.Sign(s.keys["targets"]); err == nil {
		t.Error("a key without any say signed")
	}
	files, err := s.open(t).AdoptRoot(p, s.ring, start, until())
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || files[0].Path != "metadata/2.root.json" {
		t.Errorf("got %v, want the root alone", files)
	}
	s.store.put(files)
	set := s.open(t)
	if r := set.Roles()[0]; r.Version != 2 || r.Threshold != 3 || len(r.Keys) != 4 {
		t.Errorf("got %+v", r)
	}
	if _, err := set.AdoptRoot(p, s.ring, start, until()); !errors.Is(err, ErrStale) {
		t.Errorf("a second time: got %v, want ErrStale", err)
	}
}

func TestNewOnlineKeysTakeOverWithoutAGap(t *testing.T) {
	for _, role := range []string{RoleSnapshot, RoleTimestamp} {
		t.Run(role, func(t *testing.T) {
			s := newTestSite(t)
			next := s.key(t, "next")
			p := s.propose(t, func(set *Set) error {
				return errors.Join(set.Change(AuthorityChange{Role: role, Add: &next.Public}),
					set.Change(AuthorityChange{Role: role, Remove: s.keys[role].Public.ID}))
			})
			s.lose("next")
			if _, err := s.open(t).AdoptRoot(p, s.ring, start, until()); err == nil {
				t.Fatal("a root was published whose online key is not here")
			}
			s.hold("next")
			files, err := s.open(t).AdoptRoot(p, s.ring, start, until())
			if err != nil {
				t.Fatal(err)
			}
			for i := range files {
				s.store.put(files[:i+1])
				s.open(t) // verifies
			}
			if last := files[len(files)-1].Path; last != "metadata/2.root.json" {
				t.Errorf("got %s last, want the root", last)
			}
			s.lose(role)
			files, err = s.open(t).Seal(s.ring, until(), false)
			if err != nil {
				t.Fatalf("without the old key: %v", err)
			}
			s.store.put(files)
			s.open(t)
		})
	}
}

func TestARootThatWouldOrphanTargetsIsRefused(t *testing.T) {
	s := newTestSite(t)
	next := s.key(t, "next")
	change := func(set *Set) error {
		return errors.Join(set.Change(AuthorityChange{Role: RoleTargets, Add: &next.Public}),
			set.Change(AuthorityChange{Role: RoleTargets, Remove: s.keys["targets"].Public.ID}))
	}
	p := s.propose(t, change)
	if _, err := s.open(t).AdoptRoot(p, s.ring, start, until()); err == nil || !strings.Contains(err.Error(), "targets would not verify") {
		t.Fatalf("got %v", err)
	}
}

func TestARootThatSoonExpiresIsRefused(t *testing.T) {
	s := newTestSite(t)
	p := s.propose(t, (*Set).RenewRoot)
	late := expires(RoleRoot).Add(-MinRootLife + 1)
	if _, err := s.open(t).AdoptRoot(p, s.ring, late, until()); err == nil {
		t.Error("got no error")
	}
}

func TestAReleaseCollectsSignaturesOnCopies(t *testing.T) {
	s := newTestSite(t)
	for _, name := range []string{"anna", "ben", "cleo"} {
		s.lose(name)
	}
	put := func(name string) func(*Set) error {
		return func(set *Set) error {
			_, err := set.PutTarget("os-stable", name, []byte("x"))
			return err
		}
	}
	p := s.propose(t, put("os/stable/pc/1.json"))
	one, two := roundTrip(t, p), roundTrip(t, p)
	if err := errors.Join(one.Sign(s.keys["anna"]), two.Sign(s.keys["cleo"])); err != nil {
		t.Fatal(err)
	}
	if err := s.open(t).Adopt(one, s.ring, expires); err == nil {
		t.Fatal("one signature of two sufficed")
	}
	other := s.propose(t, put("os/stable/pc/2.json"))
	if err := one.Merge(other); err == nil {
		t.Error("signatures on another release were merged")
	}
	if err := one.Merge(two); err != nil {
		t.Fatal(err)
	}
	set := s.open(t)
	if err := set.Adopt(one, s.ring, expires); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.store.put(files)
	if _, found, err := s.open(t).Target("os-stable", "os/stable/pc/1.json"); err != nil || !found {
		t.Errorf("found: %t, %v", found, err)
	}
	if err := errors.Join(other.Sign(s.keys["anna"]), other.Sign(s.keys["ben"])); err != nil {
		t.Fatal(err)
	}
	if err := s.open(t).Adopt(other, s.ring, expires); !errors.Is(err, ErrStale) {
		t.Errorf("a proposal for the state before: got %v, want ErrStale", err)
	}
}

// A proposal may have a high version number, because files of interrupted runs lay there
// when it was made. It is stale all the same once the role has changed.
func TestAStaleProposalIsRefusedWhateverItsVersion(t *testing.T) {
	s := newTestSite(t)
	s.store["metadata/7.os-stable.json"] = []byte("left behind")
	p := s.propose(t, func(set *Set) error { return set.Renew("os-stable") })
	delete(s.store, "metadata/7.os-stable.json")
	set := s.open(t)
	if _, err := set.PutTarget("os-stable", "os/stable/pc/1.json", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := set.Sign("os-stable", expires("os-stable"), s.ring); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.store.put(files)
	if err := s.open(t).Adopt(p, s.ring, expires); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale: the release would be withdrawn silently", err)
	}
}

func TestAChangedProposalLosesItsSignatures(t *testing.T) {
	s := newTestSite(t)
	p := s.propose(t, func(set *Set) error {
		_, err := set.PutTarget("os-stable", "os/stable/pc/1.json", []byte("x"))
		return err
	})
	if got := reached(t, p); !slices.Equal(got, []bool{true}) {
		t.Fatalf("got %v, want all reached", got)
	}
	p.Documents[0].After = bytes.Replace(p.Documents[0].After, []byte("pc/1.json"), []byte("pc/9.json"), 1)
	if got := reached(t, p); !slices.Equal(got, []bool{false}) {
		t.Errorf("got %v: signatures cover what was changed", got)
	}
	if err := s.open(t).Adopt(p, s.ring, expires); err == nil {
		t.Error("it was adopted")
	}
}

func TestNewReleaseKeysSignTogetherWithTheirDelegation(t *testing.T) {
	s := newTestSite(t)
	dora := s.key(t, "dora")
	p := s.propose(t, func(set *Set) error {
		return errors.Join(set.Change(AuthorityChange{Role: "os-stable", Add: &dora.Public, Name: "dora"}),
			set.Change(AuthorityChange{Role: "os-stable", Remove: s.keys["anna"].Public.ID}),
			set.Change(AuthorityChange{Role: "os-stable", Threshold: 3}))
	})
	if len(p.Documents) != 2 {
		t.Fatalf("got %d documents, want targets and os-stable", len(p.Documents))
	}
	set := s.open(t)
	if err := set.Adopt(p, s.ring, expires); err != nil {
		t.Fatal(err)
	}
	files, err := set.Seal(s.ring, until(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.store.put(files)
	a, err := s.open(t).Authority("os-stable")
	if err != nil || a.Threshold != 3 || len(a.Keys) != 3 {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestWordsSayWhatChanges(t *testing.T) {
	s := newTestSite(t)
	dora := s.key(t, "dora")
	cases := map[string]struct {
		change func(*Set) error
		want   []string
	}{
		"key": {func(set *Set) error {
			return errors.Join(set.Change(AuthorityChange{Role: RoleRoot, Add: &dora.Public, Name: "dora", Threshold: 3}),
				set.Change(AuthorityChange{Role: RoleRoot, Remove: s.keys["root-1"].Public.ID[:8]}))
		}, []string{"root goes from version 1 to 2", "role root gets key dora", "role root loses key root-1", "needs 3 of 3 signatures instead of 2 of 3"}},
		"channel": {func(set *Set) error {
			return set.AddChannel(Channel{Name: "night", Releases: s.by(t, 1, "anna"), Fleet: s.by(t, 1, "fleet")})
		}, []string{"targets delegates [os/night/*/*] to the new role os-night", "targets delegates [fleet/night/*] to the new role fleet-night", "role os-night gets key anna", "os-night goes from version 0 to 1"}},
		"content elsewhere": {func(set *Set) error {
			_, err := set.PutTarget("os-stable", "os/stable/pc/1.json", []byte("x"))
			return err
		}, []string{`os-stable adds "os/stable/pc/1.json"`, "its content is not in this file"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			lines, err := s.propose(t, c.change).Describe()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(strings.Join(lines, "\n"), want) {
					t.Errorf("got %q, want %q in it", lines, want)
				}
			}
		})
	}
}

func TestWordsRefuseContentThatIsNotSigned(t *testing.T) {
	s := newTestSite(t)
	p := s.propose(t, func(set *Set) error {
		_, err := set.PutTarget("os-stable", "os/stable/pc/1.json", []byte("x"))
		return err
	})
	p.Files["os/stable/pc/1.json"] = []byte("y")
	if _, err := p.Describe(); err == nil {
		t.Error("other content was described")
	}
}

// FuzzProposal: a proposal file from anybody is refused or can be shown, signed and
// merged; nothing panics, and what parses is written back as it was.
func FuzzProposal(f *testing.F) {
	s := newTestSite(f)
	for _, change := range []func(*Set) error{
		(*Set).RenewRoot,
		func(set *Set) error { return set.Renew("os-stable") },
		func(set *Set) error {
			return set.AddChannel(Channel{Name: "night", Releases: s.by(f, 1, "anna"), Fleet: s.by(f, 1, "fleet")})
		},
	} {
		b, err := s.propose(f, change).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"format":1,"documents":[{"role":"root"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProposal(b)
		if err != nil {
			return
		}
		_, _ = p.Describe()
		_, _ = p.Requirements()
		_ = p.Sign(s.keys["anna"])
		_ = p.Sign(s.keys["root-1"])
		_ = p.Merge(p)
	})
}

// FuzzMetadata: a metadata file from anybody is refused or parsed; nothing panics.
func FuzzMetadata(f *testing.F) {
	s := newTestSite(f)
	for _, b := range s.store {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parse[metadata.RootType](b)
		_, _ = parse[metadata.TimestampType](b)
		_, _ = parse[metadata.SnapshotType](b)
		if doc, err := parse[metadata.TargetsType](b); err == nil {
			set := &Set{delegated: map[string]*targetsDoc{"x": doc}}
			_, _ = set.Targets("x")
			_, _ = set.Withdrawn("x")
		}
	})
}
