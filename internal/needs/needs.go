package needs

import (
	"os"
	"os/exec"
	"testing"
)

// That skips a test unless it has a part, which what names, and fails it in CI.
func That(t testing.TB, has bool, what string) {
	t.Helper()
	switch {
	case has:
	case os.Getenv("CI") != "":
		t.Fatalf("needs %s", what)
	default:
		t.Skipf("needs %s", what)
	}
}

// Tools are commands that a test needs.
func Tools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		That(t, err == nil, name+" (see .ci/install)")
	}
}
