package server

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

var update = flag.Bool("update", false, "write golden files")

func TestPublishTwiceOfTheSameInputsGivesTheSameRepository(t *testing.T) {
	first := randomImage(t, 700_000, 1)
	second := changedImage(t, first, 650_000)
	var trees []map[string][]byte
	for range 2 {
		s, c := newSite(t)
		mustPublish(t, s, releaseOf(t, "1.0", first))
		c.t = c.t.Add(time.Hour)
		mustPublish(t, s, releaseOf(t, "1.1", second))
		trees = append(trees, tree(t, s.RepositoryDir()))
	}
	sameTree(t, trees[1], trees[0])
}

func TestPublishMakesDeltasFromTheNewestAndTheNamedReleases(t *testing.T) {
	s, _ := newSite(t)
	image := randomImage(t, 200_000, 1)
	for i := range 5 {
		in := releaseOf(t, fmt.Sprintf("1.%d", i), changedImage(t, image, 1000*i))
		in.Deltas = 0
		mustPublish(t, s, in)
	}
	in := releaseOf(t, "2.0", changedImage(t, image, 90_000))
	in.Deltas, in.From = 2, []release.Version{version(t, "1.0")}
	r := mustPublish(t, s, in)
	var from []string
	for _, route := range r.Routes {
		from = append(from, route.From.String())
		if route.Delta <= 0 || route.Delta >= route.Full || route.Ratio <= 0 || route.Ratio > 0.1 {
			t.Errorf("route %+v: want a delta that is much smaller than the full image", route)
		}
	}
	if !slices.Equal(from, []string{"1.4", "1.3", "1.0"}) {
		t.Errorf("got deltas from %v, want 1.4, 1.3 and 1.0", from)
	}
	in.Version, in.From = version(t, "2.1"), []release.Version{version(t, "0.9")}
	if _, err := s.Publish(t.Context(), in); err == nil || !strings.Contains(err.Error(), "has no such release") {
		t.Errorf("from an unknown release: got %v", err)
	}
	mustVerify(t, s)
}

func TestPublishLeavesOutDeltasThatSaveNothing(t *testing.T) {
	s, _ := newSite(t)
	mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 100_000, 1)))
	r := mustPublish(t, s, releaseOf(t, "1.1", randomImage(t, 100_000, 2)))
	if len(r.Routes) != 1 || r.Routes[0].Delta != r.Routes[0].Full || len(r.Notes) != 1 {
		t.Errorf("got %+v, want one route without a delta, and a note", r)
	}
}

func TestPublishOfAnUnchangedImageCostsHostsNothing(t *testing.T) {
	s, _ := newSite(t)
	root, boot := randomImage(t, 50_000, 1), randomImage(t, 30_000, 2)
	in := releaseOf(t, "1.0", root)
	in.Images["boot"] = boot
	mustPublish(t, s, in)
	in.Version = version(t, "1.1")
	in.Images = map[string]string{"root": changedImage(t, root, 9), "boot": boot}
	r := mustPublish(t, s, in)
	if d := r.Routes[0].Delta; d > 10_000 {
		t.Errorf("got a route of %d bytes, want only the delta of root", d)
	}
}

func TestPublishRefusesAVersionThatStandsForOtherBits(t *testing.T) {
	s, _ := newSite(t)
	image := randomImage(t, 20_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	before := tree(t, s.RepositoryDir())
	if _, err := s.Publish(t.Context(), releaseOf(t, "1.0", image)); !errors.Is(err, ErrNothingToDo) {
		t.Errorf("the same again: got %v, want ErrNothingToDo", err)
	}
	for v, want := range map[string]string{"1.0": "exists already with other images", "1": "equal to 1.0", "1.0.0": "equal to 1.0"} {
		if _, err := s.Publish(t.Context(), releaseOf(t, v, randomImage(t, 20_000, 9))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s with other bits: got %v, want %q", v, err, want)
		}
	}
	sameTree(t, tree(t, s.RepositoryDir()), before)
	in := releaseOf(t, "1.0", image)
	in.Attempt = 2
	mustPublish(t, s, in)
	if _, err := s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, "1.0"), Reason: "bad"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), in); err == nil || !strings.Contains(err.Error(), "was withdrawn (bad)") {
		t.Errorf("a withdrawn version: got %v", err)
	}
}

func TestPublishUsesNoDamagedPayload(t *testing.T) {
	s, _ := newSite(t)
	first := randomImage(t, 200_000, 1)
	r := mustPublish(t, s, releaseOf(t, "1.0", first))
	h := newHost(t, s, &clock{start})
	h.accept(t, s, "1.0")
	m, err := h.manifest(t.Context(), served(s.RepositoryDir()), "stable", "pc", r.Version)
	if err != nil {
		t.Fatal(err)
	}
	path := s.repo(release.BlobPath(m.Images[0].Full.SHA256))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-7] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	before := tree(t, s.RepositoryDir())
	if _, err := s.Publish(t.Context(), releaseOf(t, "1.1", changedImage(t, first, 5))); !errors.Is(err, errDamaged) {
		t.Errorf("publish from a damaged payload: got %v, want errDamaged", err)
	}
	after := tree(t, s.RepositoryDir())
	if !bytes.Equal(after["metadata/timestamp.json"], before["metadata/timestamp.json"]) {
		t.Error("something was published")
	}
	if _, err := s.GC(t.Context(), GCOptions{}); !errors.Is(err, errDamaged) {
		t.Errorf("gc: got %v, want errDamaged", err)
	}
	v, err := s.Verify(t.Context(), false)
	if err != nil || len(v.Problems) != 1 {
		t.Errorf("verify: got %v, %v, want one problem", v, err)
	}
	// The same bits under another version: the payload is not reused as it is, but made
	// again, which mends the first release too.
	mustPublish(t, s, releaseOf(t, "1.2", first))
	mustVerify(t, s)
	if got, _ := os.ReadFile(path); !bytes.Equal(got, good) {
		t.Error("the damaged payload was not replaced")
	}
}

func TestTwoPublishersExcludeEachOther(t *testing.T) {
	s, c := newSite(t)
	if _, err := Open(s.dir, Options{Now: c.now}); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v, want ErrBusy", err)
	}
	if _, err := OpenReadOnly(s.dir, Options{Now: c.now}); err != nil {
		t.Fatalf("looking while another one writes: %v", err)
	}
	s.Close()
	openSite(t, s.dir, c)
}

func TestOpenRefusesTamperedMetadata(t *testing.T) {
	for _, name := range []string{"1.root.json", "1.targets.json", "2.os-stable.json", "2.fleet-stable.json", "2.snapshot.json", "timestamp.json"} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSite(t)
			mustPublish(t, s, releaseOf(t, "1.0", randomImage(t, 20_000, 1)))
			path := s.repo("metadata/" + name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			forged := bytes.Replace(b, []byte(`"expires":"202`), []byte(`"expires":"203`), 1)
			if bytes.Equal(forged, b) {
				t.Fatal("nothing to forge")
			}
			if err := os.WriteFile(path, forged, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Renew(t.Context(), RenewOptions{All: true}); err == nil {
				t.Error("forged metadata was signed again")
			}
		})
	}
}

// TestAnotherClientAcceptsTheRepository asks the client of the TUF library, over a plain
// file server. It shares nothing with ours but the parsing of metadata. It follows the
// repository over twenty releases and a new root with what it has kept, and starts anew
// from the first root as well.
func TestAnotherClientAcceptsTheRepository(t *testing.T) {
	s, _ := newSite(t)
	s.opt.Now = time.Now // that client knows no clock but the system's
	image := randomImage(t, 60_000, 1)
	mustPublish(t, s, releaseOf(t, "1.0", image))
	first, err := os.ReadFile(s.repo("metadata/1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.FileServer(http.Dir(s.RepositoryDir())))
	defer plain.Close()
	kept := t.TempDir()
	outsider(t, plain.URL, first, kept, 1, "os/stable/pc/1.0.json", "fleet/stable/directive.json")
	names := []string{"fleet/stable/directive.json", "os/stable/pc/1.0.json"}
	for i := range 20 {
		version := fmt.Sprintf("1.%d", i+1)
		in := releaseOf(t, version, changedImage(t, image, 77*i))
		in.Deltas = 0
		mustPublish(t, s, in)
		names = append(names, "os/stable/pc/"+version+".json")
	}
	p, err := s.RenewRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(t.Context(), RenewOptions{All: true, Roles: []string{"targets", "os-stable"}}); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(filepath.Join(kept, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	outsider(t, plain.URL, newest, kept, 2, names...)
	outsider(t, plain.URL, first, t.TempDir(), 2, names...)
}

// outsider refreshes the library's client, starting from root and from what dir has
// kept, and downloads targets.
func outsider(t *testing.T, url string, root []byte, dir string, version int64, names ...string) {
	t.Helper()
	cfg, err := config.New(url+"/metadata", root)
	if err != nil {
		t.Fatal(err)
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = dir, t.TempDir()
	cfg.RemoteTargetsURL = url + "/targets"
	u, err := updater.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Refresh(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := u.GetTargetInfo(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, content, err := u.DownloadTarget(info, "", "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.HasPrefix(name, "os/") {
			if m, err := release.DecodeManifest(content); err != nil || name != "os/stable/"+m.Compatible+"/"+m.Version.String()+".json" {
				t.Errorf("%s: got manifest %v, %v", name, m, err)
			}
		}
	}
	if n := u.GetTrustedMetadataSet().Root.Signed.Version; n != version {
		t.Errorf("got root %d, want %d", n, version)
	}
}

// TestGoldenRepository signs a fixed release with fixed keys at a fixed time: the bytes
// that are served must never change unnoticed. The payloads' digests are made up, so that
// the golden files do not depend on an encoder.
func TestGoldenRepository(t *testing.T) {
	golden := filepath.Join("..", "testdata", "repository")
	s := goldenSite(t, filepath.Join(golden, "keys"))
	set, err := s.metadata()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := s.ring()
	if err != nil {
		t.Fatal(err)
	}
	digest := func(i byte) release.Digest { return release.DigestOf([]byte{i}) }
	blob := func(i byte, n int64) release.Blob {
		return release.Blob{SHA256: digest(i), Size: n, Head: release.Head{SHA256: digest(i + 1), Size: 200}}
	}
	m := release.Manifest{Format: 1, Version: version(t, "2026.11.21.1"), Compatible: "example-amd64", Epoch: 1, Attempt: 1, MinUpdater: version(t, "0.1.0"),
		Images: []release.Image{
			{Name: "boot", Size: 8192, Root: digest(10), Salt: saltOf("example-amd64", "boot"), Full: blob(11, 5000)},
			{Name: "root", Size: 1 << 20, Root: digest(20), Salt: saltOf("example-amd64", "root"), Full: blob(21, 500_000)},
		},
		Deltas: []release.Delta{{Image: "root", From: digest(30), Blob: blob(31, 1234)}},
		Meta:   map[string]string{"notes": "the first one"}}
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	share := 250
	_, err = s.offer(t.Context(), set, ring, offering{channel: "stable", manifests: map[string][]byte{m.Compatible: content},
		version: m.Version, start: RolloutStart{Permille: &share}})
	if err != nil {
		t.Fatal(err)
	}
	got := tree(t, s.RepositoryDir())
	if *update {
		if err := errors.Join(os.RemoveAll(filepath.Join(golden, "served")), os.CopyFS(filepath.Join(golden, "served"), os.DirFS(s.RepositoryDir()))); err != nil {
			t.Fatal(err)
		}
	}
	sameTree(t, got, tree(t, filepath.Join(golden, "served")))
}

// goldenSite makes a site at a fixed time with the keys in dir; with -update it makes the
// keys that are missing.
func goldenSite(t *testing.T, dir string) *Site {
	t.Helper()
	c := &clock{start}
	site := filepath.Join(t.TempDir(), "site")
	for _, sub := range []string{"keys", "staging", "repository"} {
		if err := os.MkdirAll(filepath.Join(site, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	state, err := durable.OpenDir(site, false)
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{dir: site, state: state, medium: osMedium{}, settings: Settings{Format: 1, Profile: Solo, Lifetimes: DefaultLifetimes()}, opt: Options{Now: c.now}.withDefaults()}
	plan := &publisher.Plan{Names: map[string]string{}, Now: start, Expires: s.expires}
	by := func(name string) publisher.Authority {
		if _, err := os.Stat(filepath.Join(dir, name+".pub")); *update && gone(err) {
			key, err := publisher.Generate(publisher.Ed25519)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.MkdirAll(dir, 0o755), publisher.SaveKey(dir, name, key, nil)); err != nil {
				t.Fatal(err)
			}
		}
		key, err := publisher.ReadPublic(filepath.Join(dir, name+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		plan.Names[key.ID] = name
		return publisher.Authority{Threshold: 1, Keys: []publisher.PublicKey{key}}
	}
	plan.Root, plan.Targets, plan.Snapshot, plan.Timestamp = by("root"), by("targets"), by("snapshot"), by("timestamp")
	plan.Channels = []publisher.Channel{{Name: "stable", Releases: by("release"), Fleet: by("fleet")}}
	copyTree(t, dir, filepath.Join(site, "keys"))
	ring, err := s.ring()
	if err != nil {
		t.Fatal(err)
	}
	set, files, err := publisher.New(*plan, ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.write(t.Context(), set, files); err != nil {
		t.Fatal(err)
	}
	return s
}
