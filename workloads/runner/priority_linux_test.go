package runner_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An agent that was started to disturb nobody (Nice=, CPUSchedulingPolicy=, IOSchedulingClass=
// of its unit, or a cron job) starts applications that are like any other service.
func TestAnApplicationDoesNotInheritTheAgentsPriority(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		const idle = "3" // class of input and output
		h.options.Shim = append([]string{"/usr/bin/nice", "-n", "7", "/usr/bin/ionice", "-c", idle, "/usr/bin/chrt", "--batch", "0"}, h.options.Shim...)
		h.open()
		scores := map[string]string{"app": "500", "system": "100"}
		if !mayScore(t) { // then none is set: the application could lower it again
			scores = map[string]string{"app": "0", "system": "0"}
		}
		for class, score := range scores {
			u := h.actor("sleep")
			u.Manifest.Class = class
			h.start(u)
			pids := h.apps()
			if len(pids) != 1 {
				t.Fatalf("processes: got %v, want one", pids)
			}
			attr, err := unix.SchedGetAttr(pids[0], 0)
			if err != nil {
				t.Fatal(err)
			}
			io, _, no := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pids[0]), 0)
			if attr.Nice != 0 || attr.Policy != unix.SCHED_NORMAL || no != 0 || io != 0 {
				t.Errorf("class %s: got nice %d, policy %d, priority of input and output %x, %v, want 0 of each", class, attr.Nice, attr.Policy, io, no)
			}
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pids[0])); err != nil || strings.TrimSpace(string(b)) != score {
				t.Errorf("class %s: score for lack of memory: got %q, %v, want %s", class, b, err, score)
			}
			if err := h.Stop(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A shim may be late, and its application may not: nor what is run beside it.
func TestAnApplicationsTimersAreExact(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if _, err := h.Exec(ctx, "web", []string{"/bin/actor", "sleep"}, nil, io.Discard, io.Discard); ctx.Err() == nil {
				t.Errorf("exec: got %v before it was cut off", err)
			}
		}()
		defer func() { cancel(); <-ended }()
		h.eventually("the command", func() bool { return len(h.apps()) == 2 })
		for _, pid := range h.apps() {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", pid)); err != nil || strings.TrimSpace(string(b)) != "50000" {
				t.Errorf("process %d: got timers that may be late by %q ns, %v, want 50000", pid, b, err)
			}
		}
	})
}

// mayScore reports whether a score that this process sets is for good.
func mayScore(t *testing.T) bool {
	t.Helper()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		t.Fatal(err)
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
