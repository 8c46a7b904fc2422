package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// The publisher's units are understood by systemd, and their commands by twinkeel-server.
func TestPublishersUnitsAreUnderstood(t *testing.T) {
	needs.Tools(t, "systemd-analyze")
	files, err := filepath.Glob("../../examples/systemd/publisher/twinkeel-*")
	if err != nil || len(files) != 6 {
		t.Fatalf("unit files: got %v, %v", files, err)
	}
	dir, args := t.TempDir(), []string{"verify", "--man=no"}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range bytes.Split(b, []byte("\n")) {
			command, ok := bytes.CutPrefix(line, []byte("ExecStart=/usr/bin/twinkeel-server "))
			if !ok {
				continue
			}
			words := []string{}
			for _, w := range bytes.Fields(command) {
				words = append(words, string(w))
			}
			var out bytes.Buffer
			if code := run(t.Context(), words, nil, &out, &out); code != exitError || !bytes.Contains(out.Bytes(), []byte("/srv/twinkeel")) {
				t.Errorf("%s: %q: got exit status %d, want one for a site that is missing: %s", f, words, code, &out)
			}
		}
		b = bytes.ReplaceAll(b, []byte("/usr/bin/twinkeel-server"), []byte("/bin/true"))
		name := filepath.Join(dir, filepath.Base(f))
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".timer" || filepath.Base(name) == "twinkeel-serve.service" {
			args = append(args, name)
		}
	}
	if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || bytes.Contains(out, []byte(dir)) {
		t.Errorf("%v\n%s", err, out)
	}
}
