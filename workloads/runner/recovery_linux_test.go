package runner_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/workloads/oci"
)

// shims are the processes of the shims of web.
func (h *host) shims() []int {
	var pids []int
	dirs, _ := filepath.Glob(filepath.Join(h.dir, "run", "web.*"))
	for _, d := range dirs {
		for _, pid := range oci.Groups().Members(groups + filepath.Base(d) + ".shim") {
			// In the hierarchy that crun does not see, its container is where its shim is.
			if !slices.Contains(h.apps(), pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// apps are the processes of web itself.
func (h *host) apps() []int {
	var pids []int
	dirs, _ := filepath.Glob(filepath.Join(h.dir, "run", "web.*"))
	for _, d := range dirs {
		pids = append(pids, oci.Groups().Members(groups+filepath.Base(d))...)
	}
	return pids
}

func kill(t *testing.T, pids []int) {
	t.Helper()
	if len(pids) == 0 {
		t.Fatal("nothing to kill")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAKilledShimIsReplacedAndItsApplicationStartsOnce(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		h.eventually("its first line", func() bool { return strings.Contains(h.said(), "sleeping") })
		before := h.apps()
		kill(t, h.shims())
		h.eventually("a new shim", func() bool {
			st, err := h.Status(t.Context(), "web")
			return err == nil && st.Running
		})
		if now := h.apps(); len(now) != 1 || now[0] == before[0] {
			t.Errorf("processes: got %v after %v, want one other", now, before)
		}
		h.eventually("two starts in the log, and no line lost", func() bool { return strings.Count(h.said(), "sleeping") == 2 })
	})
}

func TestAnotherAgentFindsTheApplicationRunning(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	h.start(u)
	before := h.apps()
	h.open() // the agent was killed and is back
	if now := h.apps(); len(now) != 1 || now[0] != before[0] {
		t.Errorf("processes: got %v, want %v", now, before)
	}
	if err := h.Start(t.Context(), u); err == nil {
		t.Error("it was started twice")
	}
	if st := h.status(); !st.Running || st.Restarts != 0 {
		t.Errorf("got %+v, want it untouched", st)
	}
}

// Whose name comes first is not who starts first.
func TestUnitsThatLostTheirShimsTogetherStartInTheirOrder(t *testing.T) {
	h := newHost(t, "")
	web := h.actor("sleep")
	other := web
	m := *web.Manifest
	m.Name, m.After, m.Data = "other", []string{"web"}, nil
	other.Manifest, other.Data = &m, nil
	h.start(web)
	h.start(other)
	since := func(name string) time.Time {
		st, err := h.Status(t.Context(), name)
		if err != nil || !st.Running {
			return time.Time{}
		}
		return st.Since
	}
	before := since("other")
	var pids []int
	for _, id := range []string{"web.0", "other.1"} {
		pids = append(pids, oci.Groups().Members(groups+id+".shim")...)
	}
	kill(t, pids)
	h.eventually("both again", func() bool { return since("web").After(before) && since("other").After(before) })
	if first, then := since("web"), since("other"); !first.Before(then) {
		t.Errorf("web started at %s and other at %s, want web first", first, then)
	}
}

// A runtime that is away for a moment, just when a shim is lost, keeps neither this agent nor
// the next one from starting its application again.
func TestWhatCannotBeStartedAgainIsTriedAgain(t *testing.T) {
	h := newHost(t, "")
	real, err := exec.LookPath(runtimes(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	h.options.Runtime = filepath.Join(h.dir, "runtime")
	away := filepath.Join(h.dir, "away")
	script := "#!/bin/sh\ncase $* in *' run '*) [ -e " + away + " ] && echo >>" + away + " && kill -9 $$;; esac\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(h.options.Runtime, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.start(h.actor("sleep"))
	for _, next := range []func(){func() {}, h.open} {
		if err := os.WriteFile(away, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		kill(t, append(h.shims(), h.apps()...))
		h.eventually("an attempt in vain", func() bool { st, err := os.Stat(away); return err == nil && st.Size() > 0 })
		next()
		if err := os.Remove(away); err != nil {
			t.Fatal(err)
		}
		h.eventually("the application", func() bool { st, err := h.Status(t.Context(), "web"); return err == nil && st.Running })
	}
}

func TestAKilledApplicationIsStartedAgain(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		kill(t, h.apps())
		h.eventually("a restart", func() bool { st := h.status(); return st.Restarts == 1 && st.Running })
		contains(t, h.status().Exit, "killed")
	})
}

func TestAShimAndAgentKilledTogetherLeaveNothingTwice(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		// The agent that comes next may be quicker than the one that is left: both look
		// after it, and one lock decides.
		kill(t, append(h.shims(), h.apps()...))
		h.open()
		h.eventually("the application", func() bool { st, err := h.Status(t.Context(), "web"); return err == nil && st.Running })
		if now := h.apps(); len(now) != 1 {
			t.Errorf("processes: got %v, want one", now)
		}
	})
}

func TestADirectoryWithoutARoleIsSweptAway(t *testing.T) {
	h := newHost(t, "")
	stray := filepath.Join(h.dir, "run", "web.99")
	if err := os.MkdirAll(stray, 0o711); err != nil {
		t.Fatal(err)
	}
	h.open()
	if _, err := os.Stat(stray); err == nil {
		t.Error("what a cut start left is still there")
	}
}

func TestARuntimeThatIsKilledOrGoneIsAnErrorAndLeavesNothing(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	fake := filepath.Join(h.dir, "runtime")
	for name, script := range map[string]string{
		"killed": "#!/bin/sh\ncase $* in *version*) echo runc version 1.4.0;; *run*) kill -9 $$;; esac\n",
		"gone":   "#!/bin/sh\ncase $* in *version*) echo runc version 1.4.0;; *) exit 127;; esac\n",
		"liar":   "#!/bin/sh\necho something else\n",
	} {
		if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		h.options.Runtime = fake
		h.open()
		if err := h.Start(t.Context(), u); err == nil {
			t.Errorf("%s: it started", name)
		}
		if dirs, _ := filepath.Glob(filepath.Join(h.dir, "run", "web.*")); len(dirs) != 0 {
			t.Errorf("%s: left %v", name, dirs)
		}
	}
	h.options.Runtime = ""
	h.open()
	h.start(u)
}

// residentKiB is what a process holds in memory.
func residentKiB(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// A command in a container may be cut off while its runtime still makes it a process of that
// container. Whatever is left of it, the application ends when it is told to.
func TestACommandThatIsCutOffKeepsNoApplicationFromEnding(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		for late := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(late)*5*time.Millisecond)
			_, _ = h.Exec(ctx, "web", []string{"/bin/actor", "sleep"}, nil, io.Discard, io.Discard)
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := h.Stop(ctx, "web"); err != nil {
			t.Error(err)
		}
	})
}
