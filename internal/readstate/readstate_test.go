package readstate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestADamagedStateIsNoSoundOne(t *testing.T) {
	dir := t.TempDir()
	command := filepath.Join(dir, "twinkeel")
	if out, err := exec.Command("go", "build", "-o", command, "github.com/twinkeel/twinkeel/cmd/twinkeel").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	state := filepath.Join(dir, "state")
	slots := [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for _, path := range slots {
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(t.Context(), command, dir, "stable", "c", slots)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Read(t.Context(), state); err != nil {
		t.Errorf("before there was a state: %v", err)
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Read(t.Context(), state); err != nil {
			t.Errorf("a state in which nothing happened: %v", err)
		}
	}
	for _, name := range []string{"journal.json", "history.json"} {
		path := filepath.Join(state, name)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(t.Context(), state); err == nil {
			t.Errorf("a damaged %s passes", name)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.States(); n != 1 {
		t.Errorf("got %d sound states, want 1", n)
	}
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(t.Context(), state); err == nil {
		t.Error("a state that is gone passes")
	}
}
