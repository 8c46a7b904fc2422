package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// maxExposure is the greatest score of systemd-analyze security, times ten, that a unit
// may have. 100 is no protection at all.
var maxExposure = map[string]string{
	"twinkeeld.service":        "15",
	"twinkeel-fetcher.service": "12",
	"twinkeel-adopt.service":   "12",
}

// units copies the unit files, with a command that exists.
func units(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("../../examples/systemd/*.[s]*")
	if err != nil || len(files) != 4 {
		t.Fatalf("unit files: got %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"/usr/bin/twinkeeld", "/usr/bin/twinkeel"} {
			b = bytes.ReplaceAll(b, []byte(command), []byte("/bin/true"))
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUnitsAreUnderstoodBySystemd(t *testing.T) {
	needs.Tools(t, "systemd-analyze")
	dir := units(t)
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, "twinkeeld.service"), filepath.Join(dir, "twinkeel-fetcher.socket"),
		filepath.Join(dir, "twinkeel-adopt.service"))
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(dir)) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUnitsAreConfined(t *testing.T) {
	needs.Tools(t, "systemd-analyze")
	dir := units(t)
	for unit, most := range maxExposure {
		cmd := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+most, filepath.Join(dir, unit))
		out, err := cmd.CombinedOutput()
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		t.Logf("%s", lines[len(lines)-1])
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
