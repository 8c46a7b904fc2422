package apps

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/server/appbuild"
)

// layouts returns a directory with the layouts of an application, made if need be.
func layouts(t *testing.T, app string) string {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/apps")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, app+"-2", "index.json")); err == nil {
		return dir
	}
	needs.Tools(t, "mmdebstrap")
	if out, err := exec.Command("./layouts.sh", dir, app).CombinedOutput(); err != nil {
		needs.That(t, !strings.Contains(string(out), "names no archive"), "a Debian archive that apt knows")
		t.Fatalf("layouts.sh: %v\n%s", err, out)
	}
	return dir
}

func build(t *testing.T, from, spec string) (*appbuild.Result, *release.AppManifest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(from, "version"))
	if err != nil {
		t.Fatal(err)
	}
	version, err := release.ParseVersion(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := appbuild.Build(context.Background(), appbuild.Options{From: from, Manifest: spec, Version: version, Output: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.Draft)
	if err != nil {
		t.Fatal(err)
	}
	m, err := appbuild.ReadDraft(b)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func TestRealServicesBecomeApplications(t *testing.T) {
	for _, c := range []struct {
		app, program, signal string
		volumes              int
	}{
		{"nginx", "/usr/sbin/nginx", "SIGQUIT", 0},
		{"redis", "/usr/bin/redis-server", "SIGTERM", 1},
		{"postgres", "/etc/app/start", "SIGINT", 1},
	} {
		t.Run(c.app, func(t *testing.T) {
			dir := layouts(t, c.app)
			old, m := build(t, filepath.Join(dir, c.app+"-1"), c.app+".toml")
			again, _ := build(t, filepath.Join(dir, c.app+"-1"), c.app+".toml")
			now, _ := build(t, filepath.Join(dir, c.app+"-2"), c.app+".toml")
			if old.Digest != again.Digest {
				t.Errorf("two runs: got %s and %s", old.Digest, again.Digest)
			}
			if now.Digest == old.Digest || now.Version.Compare(old.Version) <= 0 {
				t.Errorf("got %s %s after %s %s", now.Version, now.Digest, old.Version, old.Digest)
			}
			if m.Run.Argv[0] != c.program || m.Run.UID != 1000 || m.Run.Signal != c.signal || len(m.Data) != c.volumes || len(m.Network.Publish) != 1 {
				t.Errorf("got %+v", m)
			}
			if slices.ContainsFunc(old.Warnings, func(w string) bool { return strings.Contains(w, "runs as root") }) {
				t.Errorf("warnings: got %q", old.Warnings)
			}
		})
	}
}
