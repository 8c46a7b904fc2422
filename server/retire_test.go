package server

import (
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/signing/publisher"
)

func TestRetiredReleasesLeaveTheListAndNoHostBehind(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 200_000, 1)
	old := newHost(t, s, c)
	for i := range 6 {
		mustPublish(t, s, releaseOf(t, "1."+string(rune('0'+i)), changedImage(t, image, 1000*(i+1))))
		if i == 3 {
			old.accept(t, s, "1.3")
		}
	}
	if _, err := s.Rollout(t.Context(), RolloutOptions{Channel: "stable", Version: version(t, "1.2")}); err != nil {
		t.Fatal(err)
	}
	dry, err := s.Retire(t.Context(), RetireOptions{Keep: 2, DryRun: true})
	if err != nil || len(dry.Retired) != 2 {
		t.Fatalf("dry run: got %+v, %v, want 1.0 and 1.1, as 1.2 is offered", dry, err)
	}
	if _, err := s.Rollout(t.Context(), RolloutOptions{Channel: "stable", Version: version(t, "1.5")}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Retire(t.Context(), RetireOptions{Keep: 2})
	if err != nil || strings.Join(r.Retired, " ") != "os/stable/pc/1.3.json os/stable/pc/1.2.json os/stable/pc/1.1.json os/stable/pc/1.0.json" {
		t.Fatalf("got %+v, %v", r, err)
	}
	// A host that runs 1.3 finds 1.5 with a delta from what it has.
	old.accept(t, s, "1.5")
	m, err := old.manifest(t.Context(), served(s.RepositoryDir()), "stable", "pc", version(t, "1.5"))
	if err != nil || len(m.Deltas) != 3 {
		t.Fatalf("got %+v, %v, want deltas from three releases", m, err)
	}
	if _, err := s.Publish(t.Context(), releaseOf(t, "1.3", changedImage(t, image, 77))); err == nil || !strings.Contains(err.Error(), "were retired") {
		t.Errorf("a retired version was used again: %v", err)
	}
	if r, err := s.Retire(t.Context(), RetireOptions{Keep: 2}); err != nil || len(r.Retired) != 0 {
		t.Errorf("again: got %+v, %v", r, err)
	}
	if _, err := s.Retire(t.Context(), RetireOptions{Keep: 1}); err == nil {
		t.Error("nothing was left to go back to, and that was accepted")
	}
	if _, err := s.GC(t.Context(), GCOptions{}); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(GraceTime + day)
	if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	before, err := s.files()
	if err != nil {
		t.Fatal(err)
	}
	collected, err := s.GC(t.Context(), GCOptions{})
	if err != nil || collected.Bytes < 200_000 {
		t.Errorf("collected %d bytes of %d files, %v", collected.Bytes, len(before), err)
	}
	old.accept(t, s, "1.5")
	log, err := s.VerifyLog(t.Context())
	if err != nil || log.Damaged() != nil || log.Size != 6 || log.Unlisted != 4 {
		t.Errorf("log: got %+v, %v", log, err)
	}
	set, err := s.metadata()
	if err != nil {
		t.Fatal(err)
	}
	if used, err := set.Retired(publisher.OSRole("stable")); err != nil || used["pc"] != "1.3" {
		t.Errorf("retired: got %v, %v", used, err)
	}
}
