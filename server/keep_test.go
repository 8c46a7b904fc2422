package server

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

func TestPromotedReleaseIsTheSameBits(t *testing.T) {
	s, c := newSite(t)
	in := releaseOf(t, "1.0", randomImage(t, 20_000, 1))
	in.Channel = "beta"
	mustPublish(t, s, in)
	blobs := func() []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(tree(t, s.RepositoryDir()))), func(n string) bool { return !strings.HasPrefix(n, "blobs") })
	}
	before := blobs()
	share := 100
	p := PromoteOptions{From: "beta", To: "stable", Version: version(t, "1.0"), Rollout: RolloutStart{Permille: &share}}
	r, err := s.Promote(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if r.Directive.Permille != 100 || !slices.Equal(blobs(), before) {
		t.Errorf("got directive %+v and payloads %v, want 100 of 1000 and %v", r.Directive, blobs(), before)
	}
	newHost(t, s, c).accept(t, s, "1.0")
	if _, err := s.Promote(t.Context(), p); !errors.Is(err, ErrNothingToDo) {
		t.Errorf("again: got %v, want ErrNothingToDo", err)
	}
	p.Version = version(t, "1.1")
	if _, err := s.Promote(t.Context(), p); err == nil {
		t.Error("a release that is not there was promoted")
	}
}

func TestWithdrawMovesTheDirective(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	for i := range 3 {
		mustPublish(t, s, releaseOf(t, fmt.Sprintf("1.%d", i), changedImage(t, image, 100*i)))
	}
	h := newHost(t, s, c)
	h.accept(t, s, "1.2")
	withdraw := func(v string, down bool) (*WithdrawResult, error) {
		return s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, v), Reason: "bad " + v, ComeDown: down})
	}
	r, err := withdraw("1.2", true)
	if err != nil || !r.Directive.ComeDown || r.Directive.Permille != 1000 {
		t.Fatalf("got %+v, %v, want hosts to come down", r, err)
	}
	h.accept(t, s, "1.1")
	if _, err := h.manifest(t.Context(), served(s.RepositoryDir()), "stable", "pc", version(t, "1.2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the withdrawn release: got %v, want fs.ErrNotExist", err)
	}
	if r, err = withdraw("1.0", false); err != nil || r.Directive.Version != version(t, "1.1") {
		t.Errorf("withdrawing another release moved the directive: %+v, %v", r, err)
	}
	if _, err := withdraw("1.1", true); err == nil {
		t.Error("hosts were asked to come down to nothing")
	}
	if r, err = withdraw("1.1", false); err != nil || !r.Directive.Paused {
		t.Errorf("the last release: got %+v, %v, want a pause", r, err)
	}
	status, err := s.Status()
	if err != nil || len(status.Channels[1].Withdrawn) != 3 {
		t.Errorf("status: got %+v, %v, want three withdrawals", status, err)
	}
}

func TestRolloutChangesOnlyWhatWasAsked(t *testing.T) {
	s, _ := newSite(t)
	pause, resume, share, poll := true, false, 250, "45m"
	if _, err := s.Rollout(t.Context(), RolloutOptions{Channel: "stable", Permille: &share}); err == nil {
		t.Error("a channel without a directive got a share")
	}
	mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 20_000, 1)))
	steps := []struct {
		in   RolloutOptions
		want string
	}{
		{RolloutOptions{Permille: &share}, "1.0 250 false "},
		{RolloutOptions{Paused: &pause}, "1.0 250 true "},
		{RolloutOptions{PollInterval: &poll}, "1.0 250 true 45m"},
		{RolloutOptions{Paused: &resume}, "1.0 250 false 45m"},
	}
	for _, step := range steps {
		step.in.Channel = "stable"
		r, err := s.Rollout(t.Context(), step.in)
		if err != nil {
			t.Fatal(err)
		}
		d := r.Directive
		if got := fmt.Sprintf("%s %d %t %s", d.Version, d.Permille, d.Paused, d.PollInterval); got != step.want {
			t.Errorf("%+v: got %q, want %q", step.in, got, step.want)
		}
		if _, err := s.Rollout(t.Context(), step.in); !errors.Is(err, ErrNothingToDo) {
			t.Errorf("again: got %v, want ErrNothingToDo", err)
		}
	}
	if _, err := s.Rollout(t.Context(), RolloutOptions{Channel: "stable", Version: version(t, "9")}); err == nil {
		t.Error("a release that does not exist was offered")
	}
}

func TestRolloutOfTheNextReleaseTakesOtherHostsFirst(t *testing.T) {
	a, _ := RolloutStart{}.apply(nil, "stable", version(t, "1.0"))
	b, _ := RolloutStart{}.apply(a, "stable", version(t, "1.1"))
	if a.Salt == b.Salt || a.Salt == "" {
		t.Errorf("got the salts %q and %q, want two", a.Salt, b.Salt)
	}
	if c, note := (RolloutStart{}).apply(b, "stable", version(t, "1.0")); c != b || note == "" {
		t.Errorf("an older release took the directive back to %s", c.Version)
	}
}

func TestRenewKeepsARepositoryAliveUntilTheRootExpires(t *testing.T) {
	s, c := newSite(t)
	mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 20_000, 1)))
	h := newHost(t, s, c)
	for c.t.Before(start.Add(130 * day)) {
		h.accept(t, s, "1.0")
		c.t = c.t.Add(5 * day / 2)
		in := RenewOptions{}
		if c.t.Day() < 4 {
			in.Roles = []string{"targets", "os-stable", "os-beta"} // people, once a month
		}
		if _, err := s.Renew(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	c.t = start.Add(366 * day)
	if _, err := s.Renew(t.Context(), RenewOptions{Roles: []string{"targets", "os-stable", "os-beta"}}); err != nil {
		t.Fatalf("renew after the root expired: %v", err)
	}
	if _, err := h.look(t.Context(), served(s.RepositoryDir()), "stable"); signing.Code(err) != signing.Expired {
		t.Fatalf("got %v, want expired: the root needs people", err)
	}
	p, err := s.RenewRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), p); err != nil {
		t.Fatalf("renew an expired root: %v", err)
	}
	h.accept(t, s, "1.0")
}

func TestRenewAfterEverythingExpired(t *testing.T) {
	s, c := newSite(t)
	mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 20_000, 1)))
	c.t = start.Add(200 * day)
	r, err := s.Renew(t.Context(), RenewOptions{})
	if err != nil || len(r.Warnings) < 2 {
		t.Fatalf("got %+v, %v, want warnings about the roles of people", r, err)
	}
	if _, err := s.Renew(t.Context(), RenewOptions{Roles: []string{"targets", "os-stable", "os-beta"}}); err != nil {
		t.Fatal(err)
	}
	newHost(t, s, c).accept(t, s, "1.0")
}

func TestGCKeepsForThirtyDaysAndNeverTakesRootsOrWhatIsNeeded(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 200_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 100)))
	p, err := s.RenewRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, "1.0"), Reason: "old"}); err != nil {
		t.Fatal(err)
	}
	before := tree(t, s.RepositoryDir())
	gc := func(dry bool) *GCResult {
		t.Helper()
		r, err := s.GC(t.Context(), GCOptions{DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := gc(false); len(r.Removed) != 0 || len(r.Waiting) == 0 {
		t.Fatalf("first gc: got %+v, want all to wait", r)
	}
	c.t = c.t.Add(GraceTime - time.Second)
	if r := gc(false); len(r.Removed) != 0 {
		t.Fatalf("gc after less than 30 days removed %v", r.Removed)
	}
	sameTree(t, tree(t, s.RepositoryDir()), before)
	c.t = c.t.Add(time.Second)
	dry := gc(true)
	sameTree(t, tree(t, s.RepositoryDir()), before)
	r := gc(false)
	if !slices.Equal(r.Removed, dry.Removed) || !slices.ContainsFunc(r.Removed, func(f string) bool { return strings.HasPrefix(f, "blobs/") }) {
		t.Errorf("got %v, want what the dry run said, with a payload: %v", r.Removed, dry.Removed)
	}
	for _, f := range r.Removed {
		if strings.Contains(f, "root") {
			t.Errorf("a root was removed: %s", f)
		}
	}
	if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, s)
	newHost(t, s, c).accept(t, s, "1.1")
	// What was removed can be made again.
	mustPublish(t, s, releaseOf(t, "1.2", image))
	mustVerify(t, s)
}

func TestGCForgetsAFileThatIsReferredToAgain(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 100_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	if _, err := s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, "1.0"), Reason: "bad"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.GC(t.Context(), GCOptions{}); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(29 * day)
	}
	mustPublish(t, s, releaseOf(t, "1.1", image))
	if _, err := s.GC(t.Context(), GCOptions{}); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, s)
}

func TestBackupRestoresASiteThatCanPublish(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	file := filepath.Join(t.TempDir(), "backup.tar")
	if _, err := s.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("backup: got %v, %v, want mode 0600", st.Mode(), err)
	}
	h := newHost(t, s, c)
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 9)))
	h.accept(t, s, "1.1")
	c.t = c.t.Add(10 * day) // the backup's timestamp has expired
	dir := filepath.Join(t.TempDir(), "restored")
	r, err := Restore(t.Context(), file, dir, Options{Now: c.now})
	if err != nil || r.Damaged() != nil || r.Releases != 1 {
		t.Fatalf("restore: got %+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys", "spare")); !gone(err) {
		t.Error("the spare key was in the backup")
	}
	if _, err := Restore(t.Context(), file, dir, Options{Now: c.now}); err == nil {
		t.Error("a backup was restored over a site")
	}
	again := openSite(t, dir, c)
	if _, err := again.Renew(t.Context(), RenewOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.look(t.Context(), served(again.RepositoryDir()), "stable"); err == nil {
		t.Fatal("a host went back in time")
	}
	if _, err := again.Renew(t.Context(), RenewOptions{All: true, Skip: 1000, Roles: []string{"targets", "os-stable", "os-beta"}}); err != nil {
		t.Fatal(err)
	}
	h.accept(t, again, "1.0")
	mustPublish(t, again, releaseOf(t, "1.2", image))
	h.accept(t, again, "1.2")
}

func TestRestoreWritesNowhereElse(t *testing.T) {
	for _, name := range []string{"../evil", "/evil", "keys/../../evil", "evil", "repository/../../evil", ""} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(parent, "b.tar")
			if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(t.Context(), file, filepath.Join(parent, "in", "site"), Options{}); err == nil {
				t.Error("got no error")
			}
			if found, _ := filepath.Glob(filepath.Join(parent, "**", "evil")); len(found) > 0 {
				t.Errorf("%v was written", found)
			}
		})
	}
}

func TestABundleWorksForHostsThatPollBeforeAndAfterIt(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 100_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 50)))
	online := newHost(t, s, c)
	online.accept(t, s, "1.1")
	file := filepath.Join(t.TempDir(), "bundle")
	r, err := s.Export(t.Context(), ExportOptions{Channel: "stable", Life: DefaultBundleLife, Output: file})
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(DefaultBundleLife); !r.Expires.Equal(want) {
		t.Errorf("expires %s, want %s", r.Expires, want)
	}
	bundle := readBundle(t, file)
	timestamp, err := os.ReadFile(s.repo("metadata/timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(bundle["metadata/timestamp.json"], timestamp) {
		t.Error("the bundle's timestamp is served")
	}
	served := served(s.RepositoryDir())
	both := newHost(t, s, c)
	for _, src := range []signing.Source{bundle, served} {
		if _, err := both.look(t.Context(), src, "stable"); err != nil {
			t.Fatalf("host with the bundle and then at the server, at once: %v", err)
		}
	}
	offline := newHost(t, s, c)
	c.t = c.t.Add(20 * day) // longer than any online role lives
	for name, h := range map[string]*host{"offline": offline, "online": online} {
		d, err := h.look(t.Context(), bundle, "stable")
		if err != nil || d.Version != version(t, "1.1") {
			t.Fatalf("%s host with the bundle: got %+v, %v", name, d, err)
		}
		m, err := h.manifest(t.Context(), bundle, "stable", "pc", d.Version)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blobs(m.Images, m.Deltas) {
			if release.DigestOf(bundle[release.BlobPath(b.SHA256)]) != b.SHA256 {
				t.Errorf("payload %s is not in the bundle", b.SHA256)
			}
		}
	}
	if _, err := s.Renew(t.Context(), RenewOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*host{"offline": offline, "online": online} {
		if _, err := h.look(t.Context(), served, "stable"); err != nil {
			t.Errorf("%s host back at the server: %v", name, err)
		}
	}
	c.t = start.Add(DefaultBundleLife + time.Second)
	if _, err := newHost(t, s, c).look(t.Context(), bundle, "stable"); signing.Code(err) != signing.Expired {
		t.Errorf("old bundle: got %v, want expired", err)
	}
}

func TestABundleOfAnOlderReleaseOffersThatOne(t *testing.T) {
	s, c := newSite(t)
	image := randomImage(t, 50_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 50)))
	file := filepath.Join(t.TempDir(), "bundle")
	if _, err := s.Export(t.Context(), ExportOptions{Channel: "stable", Version: version(t, "1.0"), Life: 90 * day, FullOnly: true, Output: file}); err != nil {
		t.Fatal(err)
	}
	d, err := newHost(t, s, c).look(t.Context(), readBundle(t, file), "stable")
	if err != nil || d.Version != version(t, "1.0") || d.Permille != 1000 {
		t.Errorf("got %+v, %v, want 1.0 for all", d, err)
	}
	newHost(t, s, c).accept(t, s, "1.1")
}

// readBundle reads an archive of regular files with plain names.
func readBundle(t *testing.T, file string) sealed {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := sealed{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || files[h.Name] != nil || h.Format == tar.FormatGNU {
			t.Errorf("entry %q of type %c, format %s", h.Name, h.Typeflag, h.Format)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTenThousandReleasesCanStillBePublishedAndPolled(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 10,000 files")
	}
	s, c := newSite(t)
	image := randomImage(t, 20_000, 1)
	r := mustPublish(t, s, releaseOf(t, "1.0", image))
	h := newHost(t, s, c)
	h.accept(t, s, "1.0")
	m, err := h.manifest(t.Context(), served(s.RepositoryDir()), "stable", "pc", r.Version)
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.metadata()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := s.ring()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		m.Version = version(t, fmt.Sprintf("2.%d", i))
		content, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		target, err := set.PutTarget("os-stable", release.TargetName("stable", "pc", m.Version), content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.repo(target.Path()), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Sign("os-stable", s.expires("os-stable"), ring); err != nil {
		t.Fatal(err)
	}
	if err := s.commit(context.Background(), set, ring, nil, false); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, s, releaseOf(t, "3.0", changedImage(t, image, 7)))
	h.accept(t, s, "3.0")
	if set, err = s.metadata(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(s.repo(set.MetadataPath("os-stable")))
	if err != nil || st.Size() < 1<<20 || st.Size() > publisher.MaxMetadata {
		t.Errorf("the role's file: got %v, %v, want some MiB", st, err)
	}
}
