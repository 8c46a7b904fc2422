package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// start is when every test begins.
var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// clock is a clock that stands until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// template is a site of profile solo whose keys are all readable, made once: opening an
// encrypted key is slow on purpose.
var template = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "twinkeel-site-")
	if err != nil {
		return "", err
	}
	site := filepath.Join(dir, "site")
	pass := func() ([]byte, error) { return []byte("secret"), nil }
	_, err = Init(context.Background(), site, InitOptions{Profile: Solo, Channels: []string{"stable", "beta"}, Kind: publisher.Ed25519, Lifetimes: DefaultLifetimes()},
		Options{Now: func() time.Time { return start }, Passphrase: pass})
	if err != nil {
		return "", err
	}
	return site, openKeys(filepath.Join(site, "keys"), pass)
})

func openKeys(dir string, pass publisher.Passphrase) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		key, err := publisher.ParsePrivate(b, pass)
		if err != nil {
			return err
		}
		if b, err = key.Encode(nil); err != nil {
			return err
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := template(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

// newSite returns an open site of its own for a test.
func newSite(t *testing.T) (*Site, *clock) {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "site")
	copyTree(t, from, dir)
	c := &clock{start}
	return openSite(t, dir, c), c
}

func openSite(t *testing.T, dir string, c *clock) *Site {
	t.Helper()
	s, err := Open(dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(to, "staging"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// randomImage writes an image of noise; the same seed gives the same image.
func randomImage(t *testing.T, size int, seed uint64) string {
	t.Helper()
	b := make([]byte, size)
	r := rand.NewChaCha8(sha256.Sum256([]byte{byte(seed), byte(seed >> 8)}))
	r.Read(b)
	return writeImage(t, b)
}

// changedImage writes an image that differs from another one in a few bytes.
func changedImage(t *testing.T, from string, offset int) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[offset:], "twinkeel")
	return writeImage(t, b)
}

func writeImage(t *testing.T, b []byte) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "image")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func version(t *testing.T, s string) release.Version {
	t.Helper()
	v, err := release.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// publication is what most tests publish.
func releaseOf(t *testing.T, v, image string) PublishOptions {
	t.Helper()
	return PublishOptions{Channel: "stable", Compatible: "pc", Version: version(t, v), Images: map[string]string{"root": image},
		Deltas: 3, MinUpdater: version(t, "0.1.0")}
}

func mustPublish(t *testing.T, s *Site, in PublishOptions) *PublishResult {
	t.Helper()
	r, err := s.Publish(t.Context(), in)
	if err != nil {
		t.Fatalf("publish %s: %v", in.Version, err)
	}
	return r
}

// host is a host's client with its state, which lasts over several looks.
type host struct {
	dir     durable.Dir
	factory []byte
	clock   *clock
}

func newHost(t *testing.T, s *Site, c *clock) *host {
	t.Helper()
	b, err := os.ReadFile(s.repo("metadata/1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &host{dir: newMemory(), factory: b, clock: c}
}

// served is a repository as a file server shows it.
type served string

func (d served) Fetch(_ context.Context, path string, limit int64) ([]byte, error) {
	return readFile(filepath.Join(string(d), filepath.FromSlash(path)), limit)
}

// look refreshes and returns the directive that the host sees, if any.
func (h *host) look(ctx context.Context, src signing.Source, channel string) (*release.Directive, error) {
	client, err := signing.Open(signing.Config{Dir: h.dir, Factory: h.factory, Now: h.clock.now})
	if err != nil {
		return nil, err
	}
	if err := client.Refresh(ctx, src); err != nil {
		return nil, err
	}
	b, err := client.Target(ctx, src, release.DirectiveName(channel), release.MaxDirectiveSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return release.DecodeDirective(b)
}

// manifest returns the release that the host sees.
func (h *host) manifest(ctx context.Context, src signing.Source, channel, compatible string, v release.Version) (*release.Manifest, error) {
	client, err := signing.Open(signing.Config{Dir: h.dir, Factory: h.factory, Now: h.clock.now})
	if err != nil {
		return nil, err
	}
	b, err := client.Target(ctx, src, release.TargetName(channel, compatible, v), release.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	return release.DecodeManifest(b)
}

// accept makes sure that the host sees version v with all its payloads whole.
func (h *host) accept(t *testing.T, s *Site, v string) {
	t.Helper()
	src := served(s.RepositoryDir())
	d, err := h.look(t.Context(), src, "stable")
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	if d == nil || d.Version.String() != v {
		t.Fatalf("host: got directive %+v, want version %s", d, v)
	}
	m, err := h.manifest(t.Context(), src, "stable", "pc", d.Version)
	if err != nil {
		t.Fatalf("host: %v", err)
	}
	for _, b := range blobs(m.Images, m.Deltas) {
		f, err := s.openBlob(t.Context(), b)
		if err != nil {
			t.Fatalf("host: %v", err)
		}
		f.Close()
	}
}

func mustVerify(t *testing.T, s *Site) *VerifyResult {
	t.Helper()
	r, err := s.Verify(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Damaged(); err != nil {
		t.Fatal(err)
	}
	return r
}

// tree returns the content of all files below dir.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameTree(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: got %.300q, want %.300q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: is there and should not be", name)
		}
	}
}
