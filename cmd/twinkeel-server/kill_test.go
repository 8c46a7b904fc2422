package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPublishSurvivesKill9 kills real publishing processes at moments spread over a whole
// run. Whatever was killed, the repository verifies, offers the old or the new release,
// is not locked, and the same command finishes the work.
func TestPublishSurvivesKill9(t *testing.T) {
	const kills = 12
	dir := t.TempDir()
	site := filepath.Join(dir, "site")
	if err := newSite(site, true); err != nil {
		t.Fatal(err)
	}
	first, second := filepath.Join(dir, "1.img"), filepath.Join(dir, "2.img")
	b := make([]byte, 4<<20)
	rand.NewChaCha8(sha256.Sum256([]byte("kill"))).Read(b)
	if err := os.WriteFile(first, b, 0o644); err != nil {
		t.Fatal(err)
	}
	copy(b[1<<20:], "changed")
	if err := os.WriteFile(second, b, 0o644); err != nil {
		t.Fatal(err)
	}
	publish := func(version, image string) *exec.Cmd {
		return exec.Command("twinkeel-server", "publish", site, "--channel", "stable", "--version", version, "--compatible", "pc", "--image", "root="+image, "--quiet")
	}
	begin := time.Now()
	if out, err := publish("1.0", first).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(begin) * 3 / 2
	killed := 0
	for i := range kills {
		cmd := publish("1.1", second)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole * time.Duration(i) / kills)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			killed++
		}
		if v := offered(t, site); v != "1.0" && v != "1.1" {
			t.Fatalf("after kill %d: the channel offers %q", i, v)
		}
	}
	t.Logf("%d of %d processes died at work", killed, kills)
	if killed == 0 {
		t.Error("no process died at work: the test is blind")
	}
	out, err := publish("1.1", second).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == exitNothing) {
		t.Fatalf("after the kills: %v: %s", err, out)
	}
	if v := offered(t, site); v != "1.1" {
		t.Errorf("the channel offers %q, want 1.1", v)
	}
	if left, _ := filepath.Glob(filepath.Join(site, "staging", "*.tmp")); len(left) > 0 {
		t.Errorf("%v were left behind", left)
	}
}

// offered verifies the site and returns the version that stable offers.
func offered(t *testing.T, site string) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := run(context.Background(), []string{"verify", site, "--quiet"}, nil, &out, &errOut); code != exitDone {
		t.Fatalf("verify: exit %d: %s", code, &errOut)
	}
	out.Reset()
	if code := run(context.Background(), []string{"status", site, "--json"}, nil, &out, &errOut); code != exitDone {
		t.Fatalf("status: exit %d: %s", code, &errOut)
	}
	var status struct {
		Channels []struct {
			Name      string
			Directive struct{ Version string }
		}
	}
	if err := json.Unmarshal([]byte(out.String()), &status); err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Channels {
		if c.Name == "stable" {
			return c.Directive.Version
		}
	}
	return ""
}
