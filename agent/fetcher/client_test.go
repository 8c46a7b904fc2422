package fetcher_test

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher"
	"github.com/twinkeel/twinkeel/server/serve"
)

// caFile writes the certificate of s where a configuration would name it.
func caFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const blobPath = "blobs/sha256/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// repository is a small one, with a blob larger than any frame.
func repository(t *testing.T) (dir string, blob []byte) {
	t.Helper()
	dir = t.TempDir()
	blob = bytes.Repeat([]byte("a blob has many bytes "), 50_000)
	for path, content := range map[string]string{
		"metadata/timestamp.json": `{"signed":{}}`, "metadata/1.root.json": "{}", blobPath: string(blob),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, blob
}

// checkRepository reads the repository in all the ways that a host does.
func checkRepository(t *testing.T, c agent.Net, blob []byte) {
	t.Helper()
	const path = blobPath
	size := int64(len(blob))
	for _, test := range []struct {
		path          string
		offset, limit int64
		want          []byte
	}{
		{"metadata/timestamp.json", 0, 1000, []byte(`{"signed":{}}`)},
		{"metadata/timestamp.json", 0, 5, []byte(`{"sig`)},
		{path, 0, 12, blob[:12]},
		{path, 0, size, blob},
		{path, 0, size + 1, blob},
		{path, 300_000, 400_000, blob[300_000:700_000]},
		{path, size - 5, 5, blob[size-5:]},
		{path, size - 5, 500, blob[size-5:]},
	} {
		got, err := c.Get(t.Context(), test.path, test.offset, test.limit)
		if err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s from %d, limit %d: got %d bytes and error %v, want %d", test.path, test.offset, test.limit, len(got), err, len(test.want))
		}
	}
	if _, err := c.Get(t.Context(), "metadata/2.root.json", 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: got %v, want fs.ErrNotExist", err)
	}
	if _, err := c.Get(t.Context(), path, size, 10); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("offset at the end: got %v, want an error of the range", err)
	}
	for _, bad := range []string{"", ".", "/etc/shadow", "../x", "metadata/../x", "a//b", "a/.git", "a?b", "a%2e", "a#b", "a\x00", "a b", strings.Repeat("a", 600)} {
		if _, err := c.Get(t.Context(), bad, 0, 10); err == nil || errors.Is(err, agent.ErrUnavailable) {
			t.Errorf("path %.20q: got %v, want it refused", bad, err)
		}
	}
}

func TestAPlainFileServerWillDo(t *testing.T) {
	dir, blob := repository(t)
	s := httptest.NewServer(http.StripPrefix("/some/where", http.FileServer(http.Dir(dir))))
	defer s.Close()
	checkRepository(t, dial(t, fetcher.Options{Server: s.URL + "/some/where/"}), blob)
}

func TestOurOwnServerWillDo(t *testing.T) {
	dir, blob := repository(t)
	s, err := serve.Open(dir, serve.Options{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	web := httptest.NewServer(s)
	defer web.Close()
	checkRepository(t, dial(t, fetcher.Options{Server: web.URL}), blob)
}

func TestTLSWithACustomAuthority(t *testing.T) {
	dir, blob := repository(t)
	s := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
	defer s.Close()
	checkRepository(t, dial(t, fetcher.Options{Server: s.URL, CAFile: caFile(t, s)}), blob)
}

func TestABundleIsARepository(t *testing.T) {
	dir, blob := repository(t)
	path := filepath.Join(t.TempDir(), "bundle.tar")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err := errors.Join(err, w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	// A process of its own, without the right to open the file by its name.
	c, err := spawn(t, fetcher.Options{}).WithBundle(f)
	if err != nil {
		t.Fatal(err)
	}
	checkRepository(t, c, blob)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheProxyIsAsked(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.String()+" "+r.UserAgent()+" "+r.Header.Get("Cookie"))
		w.Header().Set("Set-Cookie", "a=b")
		_, _ = w.Write([]byte("hello"))
	}))
	defer proxy.Close()
	c := dial(t, fetcher.Options{Server: "http://updates.invalid/base", Proxy: proxy.URL, Version: "1.2.3"})
	for range 2 {
		if got, err := c.Get(t.Context(), "a/b", 0, 10); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for _, a := range asked {
		if a != "http://updates.invalid/base/a/b twinkeel/1.2.3 " {
			t.Errorf("the proxy got %q", a)
		}
	}
}

func TestBadOptionsAreRefusedAtOnce(t *testing.T) {
	for _, o := range []fetcher.Options{
		{Server: "ftp://example.net"}, {Server: "https://"}, {Server: "https://u:p@example.net"}, {Server: "https://example.net/?q"},
		{Server: "http://example.net", Bandwidth: 12}, {Server: "http://example.net", Bandwidth: -1},
		{Server: "http://example.net", Proxy: "gopher://x"}, {Server: "http://example.net", CAFile: "/nonexistent"},
		{Server: "http://example.net", CAFile: "/proc/self/status"}, {Server: "http://example.net", Version: "1\r\nX: y"},
	} {
		path := filepath.Join(t.TempDir(), "s")
		c, err := fetcher.Spawn(t.Context(), func() fetcher.Options { o.Memory = memoryForTests; return o }())
		if err == nil {
			_ = c.Close()
			t.Errorf("%+v: got no error at %s", o, path)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func TestProbesSayWhatIsIll(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/moved":
			http.Redirect(w, r, "/ill", http.StatusFound)
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 4096))
			}
		case "/hang":
			<-r.Context().Done()
		default:
			http.Error(w, "ill", http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, fetcher.Options{})
	for _, test := range []struct {
		p    agent.Probe
		code string
	}{
		{agent.Probe{HTTP: s.URL + "/ok"}, ""},
		{agent.Probe{HTTP: s.URL + "/moved"}, ""},
		{agent.Probe{HTTP: s.URL + "/endless"}, ""},
		{agent.Probe{HTTP: s.URL + "/ill"}, "unhealthy"},
		{agent.Probe{HTTP: s.URL + "/hang", Timeout: 50 * time.Millisecond}, "unhealthy"},
		{agent.Probe{TCP: u.Host}, ""},
		{agent.Probe{TCP: closed.Addr().String()}, "unhealthy"},
	} {
		err := c.Probe(t.Context(), test.p)
		var e *fetcher.Error
		if test.code == "" && err != nil || test.code != "" && (!errors.As(err, &e) || e.Code != test.code || errors.Is(err, agent.ErrUnavailable)) {
			t.Errorf("%+v: got %v, want %q", test.p, err, test.code)
		}
	}
	if err := c.Probe(t.Context(), agent.Probe{Unit: "ssh.service"}); err == nil {
		t.Error("a unit probe: got no error")
	}
}
