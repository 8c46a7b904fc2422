package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

func TestQuickstartTellsTheWholeStory(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", bin+"/", "../../cmd/twinkeel", "../../cmd/twinkeeld", "../../cmd/twinkeel-server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Setenv("TMPDIR", t.TempDir())
	out := new(bytes.Buffer)
	err := quickstart(t.Context(), out, bin)
	t.Logf("\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
