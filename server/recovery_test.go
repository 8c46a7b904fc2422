package server

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// replaceKey makes a new key of the server for a role and proposes and applies the change.
func replaceKey(t *testing.T, s *Site, role, name string) {
	t.Helper()
	key, err := publisher.Generate(publisher.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.SaveKey(filepath.Join(s.dir, "keys"), name, key, nil); err != nil {
		t.Fatal(err)
	}
	set, err := s.metadata()
	if err != nil {
		t.Fatal(err)
	}
	a, err := set.Authority(role)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Authority(publisher.AuthorityChange{Role: role, Add: &key.Public, Name: name, Remove: a.Keys[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), p); err != nil {
		t.Fatalf("replace key of %s: %v", role, err)
	}
}

// A thief of the online keys signs versions so high that hosts refuse everything that
// follows: on a server of the thief's own, or over the files of the site. New keys in a new
// root heal both, for those who saw the thief's files and for those who did not.
func TestFastForwardIsHealedByANewRoot(t *testing.T) {
	for _, where := range []string{"elsewhere", "on the site itself"} {
		t.Run(where, func(t *testing.T) {
			s, c := newSite(t)
			image := randomImage(t, 20_000, 1)
			mustPublish(t, s, releaseOf(t, "1.0", image))
			spared, victim := newHost(t, s, c), newHost(t, s, c)
			spared.accept(t, s, "1.0")
			victim.accept(t, s, "1.0")

			dir := s.dir
			if where == "elsewhere" {
				dir = filepath.Join(t.TempDir(), "thief")
				copyTree(t, s.dir, dir)
			} else {
				s.Close()
			}
			thief := openSite(t, dir, c)
			if _, err := thief.Renew(t.Context(), RenewOptions{All: true, Skip: math.MaxInt32 - 10}); err != nil {
				t.Fatal(err)
			}
			victim.accept(t, thief, "1.0")
			thief.Close()
			if where != "elsewhere" {
				s = openSite(t, dir, c)
			}

			if where == "elsewhere" {
				if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err != nil {
					t.Fatal(err)
				}
				if _, err := victim.look(t.Context(), served(s.RepositoryDir()), "stable"); signing.Code(err) != signing.Untrusted {
					t.Fatalf("before the new root: got %v, want %s", err, signing.Untrusted)
				}
			}
			replaceKey(t, s, publisher.RoleTimestamp, "timestamp-2")
			replaceKey(t, s, publisher.RoleSnapshot, "snapshot-2")
			for _, channel := range []string{"stable", "beta"} {
				replaceKey(t, s, publisher.FleetRole(channel), "fleet-2-"+channel)
			}
			mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 9)))
			for name, h := range map[string]*host{"victim": victim, "spared": spared, "new": newHost(t, s, c)} {
				t.Log(name)
				h.accept(t, s, "1.1")
			}
			set, err := s.metadata()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range set.Roles() {
				if r.Version > 1000 {
					t.Errorf("role %s goes on from the thief's version: %d", r.Name, r.Version)
				}
			}
			mustVerify(t, s)
		})
	}
}

// Old keys that are lost cannot sign for the old root; then the new root stands alone.
func TestLostOnlineKeysAreReplaced(t *testing.T) {
	for _, role := range []string{publisher.RoleTimestamp, publisher.RoleSnapshot, publisher.FleetRole("stable")} {
		t.Run(role, func(t *testing.T) {
			s, c := newSite(t)
			mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 20_000, 1)))
			h := newHost(t, s, c)
			h.accept(t, s, "1.0")
			if err := os.Remove(filepath.Join(s.dir, "keys", strings.TrimSuffix(role, "-stable")+".pem")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err == nil {
				t.Fatal("renewed without the key")
			}
			replaceKey(t, s, role, role+"-2")
			h.accept(t, s, "1.0")
			newHost(t, s, c).accept(t, s, "1.0")
			if role == publisher.FleetRole("stable") {
				return // the other channels' roles still want the lost key
			}
			if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err != nil {
				t.Fatal(err)
			}
			h.accept(t, s, "1.0")
			mustVerify(t, s)
		})
	}
}

// A root change is killed at every effect. With the old key at hand, hosts never see a
// state that does not verify; without it, the next renewal makes good what was cut off.
func TestRootChangeKilledAtAnyEffectIsMadeGood(t *testing.T) {
	for _, lost := range []bool{false, true} {
		image := randomImage(t, 20_000, 1)
		base, c := newSite(t)
		mustPublish(t, base, releaseOf(t, "1.0", image))
		key, err := publisher.Generate(publisher.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		if err := publisher.SaveKey(filepath.Join(base.dir, "keys"), "timestamp-2", key, nil); err != nil {
			t.Fatal(err)
		}
		set, err := base.metadata()
		if err != nil {
			t.Fatal(err)
		}
		a, err := set.Authority(publisher.RoleTimestamp)
		if err != nil {
			t.Fatal(err)
		}
		p, err := base.Authority(publisher.AuthorityChange{Role: publisher.RoleTimestamp, Add: &key.Public, Remove: a.Keys[0].ID})
		if err != nil {
			t.Fatal(err)
		}
		base.Close()
		for n := 0; ; n++ {
			dir := filepath.Join(t.TempDir(), "site")
			copyTree(t, base.dir, dir)
			if lost {
				if err := os.Remove(filepath.Join(dir, "keys", "timestamp.pem")); err != nil {
					t.Fatal(err)
				}
			}
			s := openSite(t, dir, c)
			known := newHost(t, s, c)
			known.accept(t, s, "1.0")
			m := newMortal(n, powerCut)
			s.medium = m
			_, err := s.Apply(t.Context(), p)
			s.Close()
			if !m.dead {
				if err != nil || n < 4 {
					t.Fatalf("without a death: %d effects, %v", n, err)
				}
				break
			}
			s = openSite(t, dir, c)
			if !lost {
				known.accept(t, s, "1.0")
				newHost(t, s, c).accept(t, s, "1.0")
			}
			if _, err := s.Apply(t.Context(), p); errors.Is(err, publisher.ErrStale) {
				_, err = s.Renew(t.Context(), RenewOptions{All: true})
				if err != nil {
					t.Fatalf("lost %t, death %d: renew: %v", lost, n, err)
				}
			} else if err != nil {
				names, _ := os.ReadDir(s.repo("metadata"))
				t.Fatalf("lost %t, death %d (%q): %v: %v", lost, n, m.log, err, names)
			}
			known.accept(t, s, "1.0")
			newHost(t, s, c).accept(t, s, "1.0")
			s.Close()
		}
	}
}

// With a channel's release keys a thief can sign a release, but neither keep it secret
// nor keep it valid.
func TestStolenReleaseKeyIsRevoked(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	h := newHost(t, s, c)
	h.accept(t, s, "1.0")
	dir := filepath.Join(t.TempDir(), "thief")
	copyTree(t, s.dir, dir)
	thief := openSite(t, dir, c)
	mustPublish(t, thief, releaseOf(t, "6.6", changedImage(t, image, 6)))

	replaceKey(t, s, publisher.OSRole("stable"), "release-2")
	replaceKey(t, s, publisher.RoleSnapshot, "snapshot-2")
	replaceKey(t, s, publisher.RoleTimestamp, "timestamp-2")
	h.accept(t, s, "1.0")
	if _, err := h.look(t.Context(), served(thief.RepositoryDir()), "stable"); err == nil {
		t.Error("a host that saw the new root follows the thief")
	}
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 9)))
	h.accept(t, s, "1.1")
	mustVerify(t, s)
}
