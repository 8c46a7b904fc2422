package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/release"
)

func (s *Story) site() string { return filepath.Join(s.Work, "site") }

// publishFirst makes the keys and the repository, and publishes what the factory installs.
func (s *Story) publishFirst(ctx context.Context) error {
	began := time.Now()
	if _, err := s.command(ctx, "twinkeel-server", "init", s.site(), "--profile", "solo"); err != nil {
		return err
	}
	if err := s.publish(ctx, 0); err != nil {
		return err
	}
	m, err := s.manifest(0)
	if err != nil {
		return err
	}
	return s.table.add(row{step: "make keys, publish " + s.Releases[0].Version, took: time.Since(began),
		notes: []string{fmt.Sprintf("%s as images, %s to download in full", megabytes(imageBytes(m)), megabytes(fullBytes(m)))}})
}

// publish publishes release i, with deltas from the releases base.
func (s *Story) publish(ctx context.Context, i int, base ...int) error {
	r := s.Releases[i]
	args := []string{"publish", s.site(), "--channel", channel, "--version", r.Version, "--compatible", compatible, "--deltas", "0"}
	for _, b := range base {
		args = append(args, "--from", s.Releases[b].Version)
	}
	for name, file := range r.Images {
		args = append(args, "--image", name+"="+file)
	}
	_, err := s.command(ctx, "twinkeel-server", args...)
	return err
}

// manifestFile is the signed manifest of release i in the repository.
func (s *Story) manifestFile(i int) (string, error) {
	pattern := filepath.Join(s.site(), "repository/targets/os", channel, compatible, "*."+s.Releases[i].Version+".json")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("manifest of %s: got %d files %s, want one", s.Releases[i].Version, len(found), pattern)
	}
	return found[0], nil
}

func (s *Story) manifest(i int) (m release.Manifest, err error) {
	file, err := s.manifestFile(i)
	if err != nil {
		return m, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest %s: %w", file, err)
	}
	return m, nil
}

func imageBytes(m release.Manifest) (n int64) {
	for _, i := range m.Images {
		n += i.Size
	}
	return n
}

func fullBytes(m release.Manifest) (n int64) {
	for _, i := range m.Images {
		n += i.Full.Size
	}
	return n
}

// deltaBytes is the size of the deltas from the images of old to those of m.
func deltaBytes(m, old release.Manifest) (n int64) {
	for _, d := range m.Deltas {
		for _, i := range old.Images {
			if d.Image == i.Name && d.From == i.Root {
				n += d.Size
			}
		}
	}
	return n
}

// startServer serves the repository on loopback, and waits until it answers.
func (s *Story) startServer(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(s.Work, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	defer log.Close()
	s.server, err = machine.Start([]string{filepath.Join(s.Bin, "twinkeel-server"), "serve", s.site(), "--listen", s.address}, log)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return s.until(ctx, 20*time.Second, "an answer of the server", func() (string, error) {
		r, err := http.Get("http://" + s.address + "/healthz")
		if err != nil {
			return err.Error(), nil
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return r.Status, nil
		}
		return "", nil
	})
}

func (s *Story) stopServer() {
	if s.server != nil {
		s.server.Terminate()
		s.server = nil
	}
}

// FreeAddress returns a loopback address that nobody listens on at the moment.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// until asks every 100 ms until ask returns "", which it must within limit. What it
// returned last says what was missing.
func (s *Story) until(ctx context.Context, limit time.Duration, what string, ask func() (missing string, err error)) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		missing, err := ask()
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("%s did not come within %s: %s", what, limit, missing)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), fmt.Errorf("waiting for %s: %s", what, missing))
		}
	}
}
