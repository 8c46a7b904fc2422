package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/signing/signingtest"
)

// TestMain lets the test binary be the command: a judge sees a process and its exit code.
func TestMain(m *testing.M) {
	if os.Getenv("TUFADAPTER_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

type (
	repo = signingtest.Repo
	doc  = signingtest.Doc
)

// stage is a judge's view of the command: two directories, a server, and what was asked
// of it.
type stage struct {
	t                    *testing.T
	metadataDir, targets string
	url                  string
	env                  []string
	mu                   sync.Mutex // guards asked
	asked                []string
	stderr               string
}

// newStage serves files by the escaped path of a request; absent ones are nil.
func newStage(t *testing.T, file func(path string) []byte) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{t: t, metadataDir: filepath.Join(dir, "metadata"), targets: filepath.Join(dir, "targets")}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimPrefix(r.Method+" ", "GET ")+path)
		s.mu.Unlock()
		b := file(path)
		if b == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// serve is newStage for a repository made here.
func serve(t *testing.T, r *repo) *stage {
	t.Helper()
	s := newStage(t, func(path string) []byte {
		name, err := url.PathUnescape(path)
		if err != nil {
			return nil
		}
		return r.File(name)
	})
	s.init(r.RootBytes(1), 0)
	return s
}

// call runs the command and fails the test unless it ends with code.
func (s *stage) call(code int, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), "TUFADAPTER_TEST_MAIN=1"), s.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run()
	s.stderr = stderr.String()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("%s: exit code: got %d, want %d\n%s", strings.Join(args, " "), got, code, s.stderr)
	}
	if (code == 0) != (s.stderr == "") {
		s.t.Errorf("%s: exit code %d, but stderr is %q", strings.Join(args, " "), code, s.stderr)
	}
}

func (s *stage) init(root []byte, code int) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "root.json")
	if err := os.WriteFile(path, root, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.call(code, "--metadata-dir", s.metadataDir, "init", path)
}

func (s *stage) refresh(code int) {
	s.t.Helper()
	s.call(code, "--metadata-url", s.url+"/metadata", "--metadata-dir", s.metadataDir, "refresh")
}

func (s *stage) download(code int, names ...string) {
	s.t.Helper()
	args := []string{"--metadata-dir", s.metadataDir}
	for _, n := range names {
		args = append(args, "--target-name", n)
	}
	// With a final slash, as refresh has none: both are the same place.
	args = append(args, "--target-dir", s.targets, "--target-base-url", s.url+"/targets/", "--metadata-url", s.url+"/metadata/", "download")
	s.call(code, args...)
}

// wantAsked compares the requests since the last call with want; role names and paths
// are those of the URL, without the leading "metadata/".
func (s *stage) wantAsked(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, a := range s.asked {
		got = append(got, strings.TrimPrefix(a, "metadata/"))
	}
	s.asked = nil
	if !slices.Equal(got, want) {
		s.t.Errorf("requests:\n got %q\nwant %q", got, want)
	}
}

// wantFiles compares the metadata files and their content with what was served.
func (s *stage) wantFiles(want map[string][]byte) {
	s.t.Helper()
	entries, err := filepath.Glob(filepath.Join(s.metadataDir, "*.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	got := map[string][]byte{}
	for _, e := range entries {
		b, err := os.ReadFile(e)
		if err != nil {
			s.t.Fatal(err)
		}
		got[strings.TrimSuffix(filepath.Base(e), ".json")] = b
	}
	for name, b := range want {
		if !bytes.Equal(got[name], b) {
			s.t.Errorf("%s: got %.60q, want the bytes as served, %.60q", name, got[name], b)
		}
	}
	if len(got) != len(want) {
		s.t.Errorf("files: got %d, want %d", len(got), len(want))
	}
}

// contents returns the downloaded files' contents, sorted.
func (s *stage) contents() []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.targets)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(s.targets, e.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, string(b))
	}
	slices.Sort(out)
	return out
}

func (s *stage) wantContents(want ...string) {
	s.t.Helper()
	if got := s.contents(); !slices.Equal(got, want) {
		s.t.Errorf("downloads: got %q, want %q", got, want)
	}
}

func newRepo() *repo {
	r := signingtest.New(time.Now().UTC().Truncate(time.Second), "a", "b")
	r.SetTarget("os/a/x/1.json", []byte("one"))
	r.SetTarget("os/b/x/1.json", []byte("other"))
	r.Publish("targets", "os-a", "os-b") // targets 2, os-* 2, snapshot 2, timestamp 2
	return r
}

func TestInitStoresTheRootAndAsksNobody(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	s.wantAsked()
	s.wantFiles(map[string][]byte{"root": r.RootBytes(1)})
	for name, root := range map[string][]byte{
		"empty": {}, "not JSON": []byte("<html>"), "unsigned": bytes.Replace(r.RootBytes(1), []byte(`"version":1`), []byte(`"version":9`), 1),
		"without a version": bytes.Replace(r.RootBytes(1), []byte(`"version":1`), []byte(`"x":1`), 1),
		"too large":         bytes.Repeat([]byte(" "), maxRootFile+1),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, r.File)
			s.init(root, 1)
			s.refresh(1)
			s.wantAsked()
			s.wantFiles(nil)
		})
	}
}

func TestInitTakesARootThatHasExpired(t *testing.T) {
	r := signingtest.New(time.Now().Add(-3*signingtest.RootLife), "a")
	s := serve(t, r)
	s.refresh(1)
	s.wantAsked("2.root.json")
	r.Now = time.Now()
	r.PublishRoot()
	r.Publish("targets", "os-a")
	s.refresh(0)
}

func TestRequestsAreThoseOfTheWorkflowAndNoOther(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	s.refresh(0)
	s.wantAsked("2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json")
	s.refresh(0)
	s.wantAsked("2.root.json", "timestamp.json")
	r.PublishRoot()
	r.PublishRoot()
	r.Publish("os-a") // 3
	s.refresh(0)
	s.wantAsked("2.root.json", "3.root.json", "4.root.json", "timestamp.json", "3.snapshot.json")
	s.download(0, "os/b/x/1.json", "os/a/x/1.json", "os/b/x/1.json")
	dir, base := "targets/os/b/x/", ".1.json"
	s.wantAsked("4.root.json", "timestamp.json", "2.os-b.json", dir+digest("other")+base,
		"3.os-a.json", "targets/os/a/x/"+digest("one")+base)
	s.wantContents("one", "other")
	s.wantFiles(map[string][]byte{
		"root": r.RootBytes(3), "timestamp": r.File("metadata/timestamp.json"), "snapshot": r.File("metadata/3.snapshot.json"),
		"targets": r.File("metadata/2.targets.json"), "os-a": r.File("metadata/3.os-a.json"), "os-b": r.File("metadata/2.os-b.json"),
	})
	s.download(0, "os/b/x/1.json")
	s.wantAsked("4.root.json", "timestamp.json")
	s.download(1, "os/a/x/absent.json")
	s.wantAsked("4.root.json", "timestamp.json")
	s.download(1, "os/a/x/absent.json", "os/b/x/1.json")
	s.wantAsked("4.root.json", "timestamp.json")
}

func TestAChangedTargetTakesTheSameFile(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	s.download(0, "os/a/x/1.json")
	before := s.names()
	r.SetTarget("os/a/x/1.json", []byte("one again"))
	r.Publish("os-a")
	s.download(0, "os/a/x/1.json")
	s.wantContents("one again")
	if after := s.names(); !slices.Equal(before, after) {
		t.Errorf("files: got %q, want %q", after, before)
	}
	// A file that somebody changed is not believed, and one that is gone is made again.
	for _, spoil := range []func(string) error{
		os.Remove, func(p string) error { return os.WriteFile(p, []byte("one aXain"), 0o600) },
	} {
		if err := spoil(filepath.Join(s.targets, before[0])); err != nil {
			t.Fatal(err)
		}
		s.download(0, "os/a/x/1.json")
		s.wantContents("one again")
	}
	r.SetFile("targets/os/b/x/"+digest("other")+".1.json", []byte("evil!"))
	s.download(1, "os/b/x/1.json")
	s.wantContents("one again")
}

func (s *stage) names() []string {
	entries, err := os.ReadDir(s.targets)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestEachVerifiedRoleIsKeptThoughALaterOneFails(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	s.refresh(0)
	old := r.Files()
	r.PublishRoot()
	r.Publish("targets") // 3
	want := map[string][]byte{
		"root": r.RootBytes(2), "timestamp": old["metadata/timestamp.json"],
		"snapshot": old["metadata/2.snapshot.json"], "targets": old["metadata/2.targets.json"],
	}
	for _, step := range []struct{ broken, kept, path string }{
		{"metadata/timestamp.json", "", ""},
		{"metadata/3.snapshot.json", "timestamp", "metadata/timestamp.json"},
		{"metadata/3.targets.json", "snapshot", "metadata/3.snapshot.json"},
	} {
		if step.kept != "" {
			want[step.kept] = r.File(step.path)
		}
		good := r.File(step.broken)
		r.SetFile(step.broken, []byte("{}"))
		s.refresh(1)
		s.wantFiles(want)
		r.SetFile(step.broken, nil)
		s.refresh(1)
		s.wantFiles(want)
		r.SetFile(step.broken, good)
	}
	s.refresh(0)
}

func TestTheTimeIsThatOfDateUnderFaketime(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	bin := t.TempDir()
	at := func(when time.Time) {
		script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = +%%s ] && echo %d\n", when.Unix())
		if err := os.WriteFile(filepath.Join(bin, "date"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at(r.Now.Add(signingtest.TimestampLife + time.Hour))
	s.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	s.refresh(0) // nobody fakes the time
	s.env = append(s.env, "FAKETIME=@2999-01-01")
	s.refresh(1)
	if !strings.Contains(s.stderr, "expired") {
		t.Errorf("got %q, want something about an expiry", s.stderr)
	}
	at(r.Now.Add(time.Hour))
	s.refresh(0)
	if err := os.WriteFile(filepath.Join(bin, "date"), []byte("#!/bin/sh\necho never\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.refresh(1)
}

func TestBadCommandLinesEndWithOne(t *testing.T) {
	s := serve(t, newRepo())
	for _, args := range [][]string{
		{}, {"refresh"}, {"--metadata-dir", s.metadataDir, "refresh"}, {"--metadata-dir"}, {"--unknown", "x", "refresh"},
		{"--metadata-dir", s.metadataDir, "init"}, {"--metadata-dir", s.metadataDir, "init", "/nonexistent"},
		{"--metadata-dir", s.metadataDir, "--metadata-url", s.url, "dance"},
		{"--metadata-dir", s.metadataDir, "--metadata-url", s.url, "download"},
		{"--metadata-dir", s.metadataDir, "--metadata-url", s.url, "--target-name", "x", "download"},
		{"--metadata-dir", s.metadataDir, "--metadata-url", "://", "refresh"},
		{"--metadata-dir", os.Args[0], "--metadata-url", s.url, "refresh"},
	} {
		s.call(1, args...)
	}
	s.wantAsked()
}

// A root with 32 signatures of 4096-bit keys takes 60 KiB and more; foreign repositories
// have such.
func TestLongChainsOfLargeRootsAreWalked(t *testing.T) {
	r := newRepo()
	s := serve(t, r)
	for range 6 {
		var keys []signingtest.Key
		for i := range 32 {
			keys = append(keys, r.NewKey(fmt.Sprint(i)))
		}
		r.SetKeys("root", 17, keys...)
		r.Edit("root", func(d doc) { d["x-note"] = strings.Repeat("x", 80<<10) })
		r.PublishRoot()
	}
	s.refresh(0)
	if len(s.asked) != 7+3 {
		t.Errorf("got %d requests, want 7 roots and 3 others", len(s.asked))
	}
	s.wantFiles(map[string][]byte{"root": r.RootBytes(7), "timestamp": r.File("metadata/timestamp.json"),
		"snapshot": r.File("metadata/2.snapshot.json"), "targets": r.File("metadata/2.targets.json")})
}
