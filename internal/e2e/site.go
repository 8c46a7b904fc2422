package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/story"
	"github.com/twinkeel/twinkeel/release"
)

// site is the publisher: a repository with all releases, and its server.
type site struct {
	k       *kit
	dir     string
	address string
	process *machine.Process
}

// newSite makes keys and an empty repository, and returns the first trust root.
func newSite(k *kit, name string) (*site, []byte, error) {
	s := &site{k: k, dir: filepath.Join(k.work, name)}
	if err := os.WriteFile(s.passphrase(), []byte("only for this test\n"), 0o600); err != nil {
		return nil, nil, err
	}
	if err := s.command("init", s.dir, "--profile", "solo"); err != nil {
		return nil, nil, err
	}
	trust, err := os.ReadFile(filepath.Join(s.dir, "repository/metadata/1.root.json"))
	return s, trust, err
}

func (s *site) passphrase() string { return filepath.Join(s.k.work, "passphrase") }

// command runs twinkeel-server.
func (s *site) command(args ...string) error {
	cmd := exec.CommandContext(s.k.ctx, filepath.Join(s.k.bin, "twinkeel-server"), args...)
	cmd.Env = append(os.Environ(), "TWINKEEL_PASSPHRASE_FILE="+s.passphrase())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("twinkeel-server %s: %w: %s", args[0], err, out)
	}
	return nil
}

// publish publishes a release, with deltas from another if from is not empty.
func (s *site) publish(l loader, version, root, boot, from string) error {
	args := []string{"publish", s.dir, "--channel", "stable", "--version", version, "--compatible", l.compatible(),
		"--no-rollout", "--deltas", "0", "--blocks-from", "-1", "--image", "root=" + root, "--image", "boot=" + boot}
	if from != "" {
		args = append(args, "--from", from)
	}
	if app := l.app(version); app != "" {
		args = append(args, "--app", "notes="+app)
	}
	return s.command(args...)
}

// manifest returns a published manifest, and as it was signed.
func (s *site) manifest(l loader, version string) (m release.Manifest, raw []byte, err error) {
	pattern := filepath.Join(s.dir, "repository/targets/os/stable", l.compatible(), "*."+version+".json")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return m, nil, fmt.Errorf("manifest of %s: got %d files %s, want one", version, len(found), pattern)
	}
	if raw, err = os.ReadFile(found[0]); err != nil {
		return m, nil, err
	}
	return m, raw, json.Unmarshal(raw, &m)
}

// serve starts the server and waits until it answers.
func (s *site) serve() error {
	log, err := os.Create(filepath.Join(s.k.work, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if s.address, err = story.FreeAddress(); err != nil {
		return err
	}
	if s.process, err = machine.Start([]string{filepath.Join(s.k.bin, "twinkeel-server"), "serve", s.dir, "--listen", s.address}, log); err != nil {
		return err
	}
	for range 200 {
		r, err := http.Get("http://" + s.address + "/healthz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the server at %s does not answer", s.address)
}

func (s *site) stop() {
	if s.process != nil {
		s.process.Terminate()
	}
}
