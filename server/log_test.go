package server

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/translog"
)

func logSize(t *testing.T, s *Site) int64 {
	t.Helper()
	r, err := s.VerifyLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Damaged(); err != nil {
		t.Fatal(err)
	}
	return r.Size
}

func TestLogHoldsEveryReleaseOnceAndNeverForgetsOne(t *testing.T) {
	s, c := newSite(t)
	if n := logSize(t, s); n != 0 {
		t.Fatalf("new site: got %d entries", n)
	}
	image := randomImage(t, 20_000, 1)
	in := releaseOf(t, "1.0", image)
	in.Channel = "beta"
	mustPublish(t, s, in)
	if _, err := s.Promote(t.Context(), PromoteOptions{From: "beta", To: "stable", Version: version(t, "1.0")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), in); !errors.Is(err, ErrNothingToDo) {
		t.Fatalf("published again: got %v", err)
	}
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 100)))
	h := newHost(t, s, c)
	h.accept(t, s, "1.1")
	if _, err := s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, "1.1"), Reason: "bad", ComeDown: true}); err != nil {
		t.Fatal(err)
	}
	h.accept(t, s, "1.0")
	r, err := s.VerifyLog(t.Context())
	if err != nil || r.Damaged() != nil || r.Size != 3 || r.Unlisted != 1 {
		t.Fatalf("got %+v, %v, want 3 entries, one of them not listed", r, err)
	}
	if e := r.Entries[0]; e.Channel != "beta" || e.Version.String() != "1.0" {
		t.Errorf("first entry: got %+v", e)
	}
}

func TestLogChangeKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	for name, in := range map[string]LogOptions{
		"rotate": {Rotate: true}, "restart": {Restart: true}, "both": {Rotate: true, Restart: true}, "warn": {Mode: translog.Warn},
	} {
		t.Run(name, func(t *testing.T) {
			image := randomImage(t, 20_000, 1)
			killEverywhere(t, reordered,
				func(s *Site) { mustPublish(t, s, releaseOf(t, "1.0", image)) },
				func(s *Site) error { _, err := s.ChangeLog(t.Context(), in); return err },
				"1.0", "1.0")
		})
	}
}

func TestHostFollowsARotatedAndARestartedLog(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	h := newHost(t, s, c)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	h.accept(t, s, "1.0")
	for i, in := range []LogOptions{{Rotate: true}, {Restart: true}, {Rotate: true, Restart: true}} {
		old, _, err := s.publishedLog()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.ChangeLog(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if in.Rotate {
			id, err := publisherKeyFile(s, old.Keys[0])
			if err != nil || os.Remove(id) != nil {
				t.Fatalf("old key: %v", err)
			}
		}
		if in.Restart == (old.Origin == r.Policy.Origin) {
			t.Errorf("%+v: origin %s became %s", in, old.Origin, r.Policy.Origin)
		}
		v := "1." + string(rune('1'+i))
		mustPublish(t, s, releaseOf(t, v, changedImage(t, image, 100*(i+1))))
		h.accept(t, s, v)
		newHost(t, s, c).accept(t, s, v)
	}
	if n := logSize(t, s); n != 4 {
		t.Errorf("got %d entries, want 4", n)
	}
}

// publisherKeyFile finds the file of a log key.
func publisherKeyFile(s *Site, key string) (string, error) {
	pub, err := translog.PublicKey(key)
	if err != nil {
		return "", err
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "keys", "log*.pub"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if k, err := parsePublicPEM(b); err == nil && bytes.Equal(k, pub) {
			return strings.TrimSuffix(name, ".pub") + ".pem", nil
		}
	}
	return "", os.ErrNotExist
}

func TestDamagedLogIsNoticed(t *testing.T) {
	s, _ := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 100)))
	for _, path := range []string{"log/tile/0/000.p/2", "log/tile/entries/000.p/2", "log/checkpoint"} {
		b, err := os.ReadFile(s.repo(path))
		if err != nil {
			t.Fatal(err)
		}
		for name, damaged := range map[string][]byte{"flipped": flipped(b, len(b)/2), "missing": nil} {
			if damaged == nil {
				err = os.Remove(s.repo(path))
			} else {
				err = os.WriteFile(s.repo(path), damaged, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.VerifyLog(t.Context())
			if err == nil && r.Damaged() == nil {
				t.Errorf("%s %s: nothing was noticed", path, name)
			}
			if _, err := s.Publish(t.Context(), releaseOf(t, "1.2", changedImage(t, image, 200))); err == nil {
				t.Errorf("%s %s: a release was published over it", path, name)
			}
		}
		if err := os.WriteFile(s.repo(path), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := logSize(t, s); n != 2 {
		t.Errorf("got %d entries", n)
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestMonitorTellsWhatIsNewAndNoticesAFork(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	thief := filepath.Join(t.TempDir(), "site")
	copyTree(t, s.dir, thief)
	factory, err := os.ReadFile(s.repo("metadata/1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	watch := func(src signing.Source) (*LogReport, error) {
		return Monitor(t.Context(), MonitorOptions{Source: src, Factory: factory, Dir: dir, Options: Options{Now: c.now}})
	}
	here := served(s.RepositoryDir())
	r, err := watch(here)
	if err != nil || r.Damaged() != nil || len(r.Entries) != 1 {
		t.Fatalf("first look: got %+v, %v", r, err)
	}
	if r, err = watch(here); err != nil || len(r.Entries) != 0 {
		t.Fatalf("second look: got %+v, %v", r, err)
	}
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 100)))
	if r, err = watch(here); err != nil || r.Damaged() != nil || len(r.Entries) != 1 || r.Entries[0].Version.String() != "1.1" {
		t.Fatalf("after a release: got %+v, %v", r, err)
	}
	// All keys but those of root and targets are stolen; the log goes on without 1.1.
	forked := openSite(t, thief, c)
	mustPublish(t, forked, releaseOf(t, "1.9", changedImage(t, image, 500)))
	mustPublish(t, forked, releaseOf(t, "1.10", changedImage(t, image, 600)))
	if r, err = watch(served(forked.RepositoryDir())); err != nil || r.Damaged() == nil || !strings.Contains(r.Damaged().Error(), "forked") {
		t.Fatalf("fork: got %+v, %v", r, err)
	}
	// And a host that has seen 1.1 takes nothing from there.
	h := newHost(t, s, c)
	h.accept(t, s, "1.1")
	if _, err := h.manifest(t.Context(), served(forked.RepositoryDir()), "stable", "pc", version(t, "1.10")); err == nil {
		t.Error("a host took a release from the fork")
	}
}

func TestBundleProvesItsReleaseToAHostThatSawAnEarlierLog(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	h := newHost(t, s, c)
	h.accept(t, s, "1.0")
	for i := range 5 {
		mustPublish(t, s, releaseOf(t, "1."+string(rune('1'+i)), changedImage(t, image, 100*(i+1))))
	}
	out := filepath.Join(t.TempDir(), "bundle")
	if _, err := s.Export(t.Context(), ExportOptions{Channel: "stable", Life: DefaultBundleLife, Output: out}); err != nil {
		t.Fatal(err)
	}
	src := bundleSource(t, out)
	if _, err := h.look(t.Context(), src, "stable"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.manifest(t.Context(), src, "stable", "pc", version(t, "1.5")); err != nil {
		t.Error(err)
	}
	for path := range src {
		if strings.HasPrefix(path, "log/tile/") {
			delete(src, path)
		}
	}
	if _, err := newHost(t, s, c).look(t.Context(), src, "stable"); err != nil {
		t.Fatal(err)
	}
	fresh := newHost(t, s, c)
	if _, err := fresh.look(t.Context(), src, "stable"); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.manifest(t.Context(), src, "stable", "pc", version(t, "1.5")); signing.Code(err) != signing.Untrusted {
		t.Errorf("without proofs: got %v, want %s", err, signing.Untrusted)
	}
}

func TestGCKeepsTheLog(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	for i := range 4 {
		mustPublish(t, s, releaseOf(t, "1."+string(rune('0'+i)), changedImage(t, image, 100*(i+1))))
	}
	if _, err := s.GC(t.Context(), GCOptions{}); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(GraceTime + day)
	r, err := s.GC(t.Context(), GCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(r.Removed, " "), "log/tile/0/000.p/1") {
		t.Errorf("removed %q, want partial tiles of earlier trees among them", r.Removed)
	}
	if _, err := s.Renew(t.Context(), RenewOptions{All: true, Roles: []string{"os-stable"}}); err != nil {
		t.Fatal(err)
	}
	if n := logSize(t, s); n != 4 {
		t.Errorf("got %d entries", n)
	}
	newHost(t, s, c).accept(t, s, "1.3")
}

// parsePublicPEM returns the bytes of an ed25519 key.
func parsePublicPEM(b []byte) ([]byte, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not ed25519")
	}
	return pub, nil
}

// bundleSource reads a bundle into memory.
func bundleSource(t *testing.T, path string) sealed {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src := sealed{}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return src
		}
		if err != nil {
			t.Fatal(err)
		}
		if src[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
