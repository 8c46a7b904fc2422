package runner_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads"
)

// newSandbox is a host with gVisor: the command that TWINKEEL_TEST_RUNSC names, or runsc.
func newSandbox(t *testing.T) *host {
	t.Helper()
	h := newHost(t, "")
	path := os.Getenv("TWINKEEL_TEST_RUNSC")
	if path == "" {
		path, _ = exec.LookPath("runsc")
	}
	needs.That(t, path != "", "gVisor's runsc, for level sandbox")
	h.options.Sandbox = path
	h.open()
	return h
}

func (h *host) sandboxed(argv ...string) workloads.Unit {
	h.t.Helper()
	u := h.actor(argv...)
	u.Manifest.Isolation.Level = "sandbox"
	u.Manifest.Limits.Memory = 256 << 20 // with the memory of gVisor's kernel
	return u
}

func TestASandboxedApplicationSeesAnotherKernelAndRunsAsAnyOther(t *testing.T) {
	h := newSandbox(t)
	u := h.sandboxed("sleep")
	u.Manifest.Health.Exec = []string{"/bin/actor", "exit", "0"}
	h.start(u)
	h.eventually("its first line", func() bool { return strings.Contains(h.said(), "sleeping") })
	out, code := h.exec("/bin/actor", "read", "/proc/version")
	if code != 0 || !strings.Contains(out, "Linux version 4.") {
		t.Errorf("kernel: got code %d and %q, want gVisor's own, which calls itself Linux 4", code, out)
	}
	if err := h.Healthy(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	if _, code := h.exec("/bin/actor", "exit", "7"); code != 7 {
		t.Errorf("exit code: got %d, want 7", code)
	}
	if _, code := h.exec("/bin/actor", "write", "/data/mine", "x"); code != 0 {
		t.Error("cannot write its own data")
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "state/data/web/mine")); err != nil || string(b) != "x" {
		t.Errorf("data on disk: got %q, %v", b, err)
	}
	if err := h.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if st := h.status(); st.Running {
		t.Errorf("got %+v, want that nothing runs", st)
	}
}

func TestASandboxedServiceIsPublishedAndAnUnhealthyOneAnswersNobody(t *testing.T) {
	h := newSandbox(t)
	serve := func(version string, health ...string) workloads.Unit {
		u := h.server(version, "parallel", health...)
		u.Manifest.Isolation.Level, u.Manifest.Limits.Memory = "sandbox", 256<<20
		return u
	}
	bad, good := serve("2", "bad"), serve("3")
	err := h.Start(t.Context(), serve("1"))
	if err != nil && strings.Contains(err.Error(), "root network namespace") {
		// Versions before 2023 look for a file that newer kernels show in every namespace.
		t.Skip("this runsc is too old for this kernel: it takes every network namespace for the host's")
	}
	if err != nil {
		t.Fatal(err)
	}
	h.eventually("a healthy start", func() bool { return h.Healthy(t.Context(), "web") == nil })
	c := ask("127.0.0.1:8081")
	if err := h.try(bad); err == nil {
		t.Error("a version that says 500 is healthy")
	}
	if err := h.Drop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := h.try(good); err != nil {
		t.Fatal(err)
	}
	if err := h.Switch(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	c.end()
	if c.answers["1"] == 0 || c.answers["2"] != 0 || c.answers["3"] == 0 || len(c.failed) > 0 {
		t.Errorf("got answers %v and %d failures (%v), want some of 1 and 3, none of 2", c.answers, len(c.failed), c.failed)
	}
}

func TestASandboxedApplicationThatEndsIsStartedAgainAndItsCodeIsKnown(t *testing.T) {
	h := newSandbox(t)
	h.start(h.sandboxed("exit", "7"))
	h.eventually("a restart", func() bool { st := h.status(); return st.Restarts >= 1 })
	contains(t, h.status().Exit, "exit status 7")
}
