package runner_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTheCostOfAShim measures with the real binary: what a shim holds in memory, and, for
// the page of figures, what a start takes of the processor beyond what the runtime takes.
func TestTheCostOfAShim(t *testing.T) {
	runtimes(t)
	daemon := filepath.Join(t.TempDir(), "twinkeeld")
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", daemon, "github.com/twinkeel/twinkeel/cmd/twinkeeld")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, b)
	}
	eachRuntime(t, func(t *testing.T, h *host) {
		h.options.Shim = []string{daemon, "shim"}
		h.open()
		u := h.actor("sleep")
		before := ownTime(t)
		h.start(u)
		agent := ownTime(t) - before
		var pids []int
		h.eventually("the shim alone", func() bool { pids = h.shims(); return len(pids) == 1 })
		t.Logf("a start took the shim %v and the agent %v beside the runtime", threadTime(t, pids[0]), agent)
		const limit = 6 << 10
		h.eventually("a small shim", func() bool { return residentKiB(t, pids[0]) <= limit })
		t.Logf("the shim holds %d KiB", residentKiB(t, pids[0]))
		// What it gave back it did not need.
		if out, code := h.exec("/bin/actor", "processes"); code != 0 {
			t.Errorf("exec: got code %d and %q", code, out)
		}
		contains(t, h.said(), "sleeping")
	})
}

// ownTime is the processor time of this process.
func ownTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// threadTime is that of all threads of another one, without its children.
func threadTime(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that ended
		}
		var ns int64
		if _, err := fmt.Sscan(strings.Fields(string(b))[0], &ns); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
