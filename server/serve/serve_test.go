package serve_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/server/serve"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type repo struct {
	dir   string
	blob  []byte
	clock *clock
	*serve.Server
}

func (r *repo) put(t testing.TB, path, content string) {
	t.Helper()
	full := filepath.Join(r.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	// As a publisher does it: a new file in the place of the old one.
	if err := os.WriteFile(full+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(full+".new", full); err != nil {
		t.Fatal(err)
	}
}

func (r *repo) blobPath() string { return release.BlobPath(release.DigestOf(r.blob)) }

func newRepo(t testing.TB, o serve.Options) *repo {
	t.Helper()
	r := &repo{dir: t.TempDir(), blob: bytes.Repeat([]byte("0123456789abcdef"), 100_000), clock: &clock{now: epoch}}
	r.put(t, "metadata/timestamp.json", `{"signed":{"version":9,"expires":"2026-11-22T12:00:00Z","meta":{"snapshot.json":{"version":3}}}}`)
	r.put(t, "metadata/1.root.json", `{"signed":{"version":1,"expires":"2027-01-01T00:00:00Z"}}`)
	r.put(t, "metadata/2.root.json", `{"signed":{"version":2,"expires":"2028-01-01T00:00:00Z"}}`)
	r.put(t, "metadata/3.snapshot.json", `{"signed":{"version":3,"expires":"2026-12-01T00:00:00Z","meta":{"targets.json":{"version":1},"os-stable.json":{"version":2}}}}`)
	r.put(t, "metadata/1.targets.json", `{"signed":{"version":1,"expires":"2026-12-02T00:00:00Z","targets":{}}}`)
	r.put(t, "metadata/2.os-stable.json", `{"signed":{"version":2,"expires":"2026-12-03T00:00:00Z","targets":{"os/stable/x/1.json":{},"os/stable/x/2.json":{}}}}`)
	r.put(t, "targets/os/stable/x/"+strings.Repeat("ab", 32)+".1.json", `{"format":1}`)
	r.put(t, r.blobPath(), string(r.blob))
	r.put(t, "keys/root.pem", "secret")
	o.Now = r.clock.Now
	s, err := serve.Open(r.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	t.Cleanup(func() { _ = s.Close() })
	return r
}

func (r *repo) ask(method, path string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "http://x/", nil)
	req.URL.Path = path
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestOnlyARepositorysNamesAreServed(t *testing.T) {
	r := newRepo(t, serve.Options{})
	if err := os.Symlink("../keys/root.pem", filepath.Join(r.dir, "metadata/7.link.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(r.dir, "targets/etc")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "metadata/8.dir.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(r.dir, "metadata/9.fifo.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.put(t, "metadata/.hidden.json", "x")
	r.put(t, "metadata/.timestamp.json123", "x")
	r.put(t, "targets/.git/"+strings.Repeat("ab", 32)+".x", "x")
	for _, path := range []string{
		"/metadata/timestamp.json", "/metadata/2.root.json", "/metadata/2.os-stable.json", "/" + r.blobPath(),
		"/targets/os/stable/x/" + strings.Repeat("ab", 32) + ".1.json", "/healthz", "/metrics",
	} {
		if w := r.ask("GET", path); w.Code != 200 {
			t.Errorf("%s: got %d, want 200", path, w.Code)
		}
	}
	for _, path := range []string{
		"", "/", "/metadata", "/metadata/", "/keys/root.pem", "/metadata/../keys/root.pem", "//metadata/timestamp.json", "/metadata//timestamp.json",
		"/metadata/7.link.json", "/metadata/8.dir.json", "/metadata/9.fifo.json", "/metadata/.hidden.json", "/metadata/.timestamp.json123",
		"/metadata/root.json", "/metadata/0.root.json", "/metadata/01.root.json", "/metadata/-1.root.json", "/metadata/99999999999.root.json", "/metadata/3.root.json",
		"/targets/.git/" + strings.Repeat("ab", 32) + ".x", "/targets/os/stable/x", "/targets/os/../../keys/root.pem",
		"/blobs/sha256/", "/blobs/sha256/" + strings.Repeat("0", 64), "/blobs/sha256/" + strings.Repeat("A", 64), "/" + r.blobPath() + "/", "/" + r.blobPath() + "\x00",
		"/" + strings.Repeat("metadata/", 1000), "/metadata/timestamp.json/", "/Metadata/timestamp.json", "/healthz/",
	} {
		if w := r.ask("GET", path); w.Code != 404 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%.80s: got %d %q, want 404", path, w.Code, w.Body)
		}
	}
	// A link that leads out is a fault of the directory, which is logged, and no way out.
	if w := r.ask("GET", "/targets/etc/"+strings.Repeat("ab", 32)+".x"); w.Code != 500 {
		t.Errorf("link out of the directory: got %d, want 500", w.Code)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "BREW"} {
		for _, path := range []string{"/metadata/timestamp.json", "/" + r.blobPath(), "/healthz"} {
			if w := r.ask(method, path); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: got %d, want 405", method, path, w.Code)
			}
		}
	}
}

func TestCachesAreToldWhatNeverChanges(t *testing.T) {
	r := newRepo(t, serve.Options{})
	const forever, minute, never = "public, max-age=31536000, immutable", "public, max-age=60", "no-store"
	for path, want := range map[string][2]string{
		"/" + r.blobPath(): {forever, `"` + release.DigestOf(r.blob).String() + `"`},
		"/targets/os/stable/x/" + strings.Repeat("ab", 32) + ".1.json": {forever, `"` + strings.Repeat("ab", 32) + `"`},
		"/metadata/1.targets.json":                                     {forever, ""},
		"/metadata/timestamp.json":                                     {minute, ""},
		"/metadata/77.root.json":                                       {never, "none"},
		"/healthz":                                                     {never, "none"},
		"/metrics":                                                     {never, "none"},
	} {
		w := r.ask("GET", path)
		etag := w.Header().Get("ETag")
		if got := w.Header().Get("Cache-Control"); got != want[0] {
			t.Errorf("%s: got Cache-Control %q, want %q", path, got, want[0])
		}
		if want[1] == "none" {
			if etag != "" {
				t.Errorf("%s: got ETag %s, want none", path, etag)
			}
			continue
		}
		if want[1] != "" && etag != want[1] || !strings.HasPrefix(etag, `"`) || len(etag) < 10 {
			t.Errorf("%s: got ETag %s, want a strong one %s", path, etag, want[1])
		}
		for _, list := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
			if w := r.ask("GET", path, "If-None-Match", list); w.Code != 304 || w.Body.Len() != 0 || w.Header().Get("ETag") != etag {
				t.Errorf("%s If-None-Match %s: got %d, want 304", path, list, w.Code)
			}
		}
		if w := r.ask("GET", path, "If-None-Match", `"x"`); w.Code != 200 {
			t.Errorf("%s with another tag: got %d, want 200", path, w.Code)
		}
		if w := r.ask("HEAD", path); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
			t.Errorf("HEAD %s: got %d with %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

func TestRangesOfBlobs(t *testing.T) {
	r := newRepo(t, serve.Options{})
	path, size := "/"+r.blobPath(), len(r.blob)
	etag := `"` + release.DigestOf(r.blob).String() + `"`
	for _, test := range []struct {
		header []string
		status int
		want   []byte
	}{
		{[]string{"Range", "bytes=5-9"}, 206, r.blob[5:10]},
		{[]string{"Range", "bytes=0-0"}, 206, r.blob[:1]},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", size-3)}, 206, r.blob[size-3:]},
		{[]string{"Range", fmt.Sprintf("bytes=%d-%d", size-3, size+100)}, 206, r.blob[size-3:]},
		{[]string{"Range", "bytes=5-9", "If-Range", etag}, 206, r.blob[5:10]},
		{[]string{"Range", "bytes=5-9", "If-Range", `"other"`}, 200, r.blob},
		{[]string{"Range", "bytes=0-1,3-4,6-7"}, 200, r.blob},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", size)}, 416, nil},
		{[]string{"Range", "bytes=9-5"}, 416, nil},
	} {
		w := r.ask("GET", path, test.header...)
		if w.Code != test.status || test.want != nil && !bytes.Equal(w.Body.Bytes(), test.want) {
			t.Errorf("%q: got %d with %d bytes, want %d with %d", test.header, w.Code, w.Body.Len(), test.status, len(test.want))
		}
	}
}

func TestANewTimestampIsSeenWithinASecond(t *testing.T) {
	r := newRepo(t, serve.Options{})
	first := r.ask("GET", "/metadata/timestamp.json")
	old := first.Header().Get("ETag")
	// The new one has the same length, as most have.
	r.put(t, "metadata/timestamp.json", strings.Replace(first.Body.String(), "2026-11-22", "2026-11-23", 1))
	r.clock.add(time.Second)
	w := r.ask("GET", "/metadata/timestamp.json", "If-None-Match", old)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "2026-11-23") {
		t.Errorf("got %d %s, want the new one", w.Code, w.Body)
	}
	if err := os.Remove(filepath.Join(r.dir, "metadata/timestamp.json")); err != nil {
		t.Fatal(err)
	}
	r.clock.add(time.Second)
	if w := r.ask("GET", "/metadata/timestamp.json"); w.Code != 404 {
		t.Errorf("removed: got %d, want 404", w.Code)
	}
	r.put(t, "metadata/timestamp.json", strings.Repeat("x", 100<<10))
	r.clock.add(time.Second)
	if w := r.ask("GET", "/metadata/timestamp.json"); w.Code != 500 {
		t.Errorf("too large: got %d, want 500", w.Code)
	}
}

func TestHealthFollowsTheTimestamp(t *testing.T) {
	r := newRepo(t, serve.Options{})
	check := func(want int, text string) {
		t.Helper()
		if w := r.ask("GET", "/healthz"); w.Code != want || !strings.Contains(w.Body.String(), text) {
			t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, want, text)
		}
	}
	check(200, "ok")
	r.clock.add(24 * time.Hour)
	check(503, "expired")
	r.clock.add(-24 * time.Hour)
	check(200, "ok")
	r.put(t, "metadata/timestamp.json", `{"signed":{}}`)
	r.clock.add(time.Second)
	check(503, "cannot be read")
	if err := os.Remove(filepath.Join(r.dir, "metadata/timestamp.json")); err != nil {
		t.Fatal(err)
	}
	r.clock.add(time.Second)
	check(503, "publish")
}

func TestMetricsTellTheFleetAndTheShelf(t *testing.T) {
	r := newRepo(t, serve.Options{})
	etag := r.ask("GET", "/metadata/timestamp.json").Header().Get("ETag")
	for range 3 {
		r.ask("GET", "/metadata/timestamp.json", "If-None-Match", etag)
	}
	r.ask("GET", "/"+r.blobPath(), "Range", "bytes=0-99")
	r.ask("GET", "/wp-login.php")
	r.ask("BREW", "/coffee")
	body := r.ask("GET", "/metrics").Body.String()
	for _, line := range []string{
		`twinkeel_requests_total{kind="timestamp",status="304"} 3`,
		`twinkeel_requests_total{kind="timestamp",status="200"} 1`,
		`twinkeel_requests_total{kind="blob",status="206"} 1`,
		`twinkeel_requests_total{kind="other",status="404"} 1`,
		`twinkeel_requests_total{kind="other",status="405"} 1`,
		`twinkeel_sent_bytes_total{kind="blob"} 100`,
		`twinkeel_requests_in_flight 1`,
		`twinkeel_metadata_version{role="root"} 2`,
		`twinkeel_metadata_version{role="timestamp"} 9`,
		`twinkeel_metadata_expiry_timestamp_seconds{role="timestamp"} 1.7953488e+09`,
		`twinkeel_metadata_expiry_timestamp_seconds{role="os-stable"}`,
		`twinkeel_metadata_expiry_timestamp_seconds{role="snapshot"}`,
		`twinkeel_releases{channel="stable"} 2`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(body, "wp-login") || strings.Contains(body, "BREW") {
		t.Error("a client made a label")
	}
	// A repository that is half gone still has metrics.
	if err := os.Remove(filepath.Join(r.dir, "metadata/3.snapshot.json")); err != nil {
		t.Fatal(err)
	}
	r.put(t, "metadata/timestamp.json", "not JSON")
	if w := r.ask("GET", "/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), `twinkeel_metadata_version{role="root"} 2`) {
		t.Errorf("damaged repository: got %d", w.Code)
	}
}

func TestRequestsAreLoggedAndPollsWithoutNewsAreNot(t *testing.T) {
	var b bytes.Buffer
	r := newRepo(t, serve.Options{Log: slog.New(slog.NewTextHandler(&b, nil))})
	etag := r.ask("GET", "/metadata/timestamp.json").Header().Get("ETag")
	r.ask("GET", "/metadata/timestamp.json", "If-None-Match", etag)
	r.ask("GET", "/x\n\x1b[2J")
	text := b.String()
	if strings.Count(text, "msg=request") != 2 || !strings.Contains(text, "status=404") || strings.ContainsAny(text, "\x1b") {
		t.Errorf("got\n%s", text)
	}
}

func TestADirectoryWithoutARepositoryIsRefused(t *testing.T) {
	if _, err := serve.Open(t.TempDir(), serve.Options{}); err == nil {
		t.Error("an empty directory: got no error")
	}
	if _, err := serve.Open(filepath.Join(t.TempDir(), "absent"), serve.Options{}); err == nil {
		t.Error("an absent directory: got no error")
	}
}

// FuzzPath asks for any path. What is answered with a file must lie in the repository.
func FuzzPath(f *testing.F) {
	r := newRepo(f, serve.Options{})
	for _, path := range []string{"/metadata/timestamp.json", "/" + r.blobPath(), "/metadata/../keys/root.pem", "/targets/a/.b", "/\x00"} {
		f.Add(path, "bytes=0-5")
	}
	f.Fuzz(func(t *testing.T, path, ranges string) {
		w := r.ask("GET", path, "Range", ranges)
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%q gives a secret away", path)
		}
		if w.Code >= 500 {
			t.Errorf("%q, %q: got %d", path, ranges, w.Code)
		}
	})
}
