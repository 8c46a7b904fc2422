package health_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/internal/needs"
)

func command(argv ...string) health.Probe {
	return health.Probe{Name: "p", Command: argv, Timeout: 20 * time.Second}
}

func shell(script string) health.Probe { return command("/bin/sh", "-c", script) }

func check(t *testing.T, p health.Probe) error {
	t.Helper()
	return (&health.Runner{}).Check(t.Context(), p)
}

func TestCommandSucceedsByItsExitCode(t *testing.T) {
	if err := check(t, shell("echo fine; exit 0")); err != nil {
		t.Errorf("exit 0: %v", err)
	}
	err := check(t, shell("echo first; echo 'disk is full' >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("exit 3: got %v", err)
	}
	var f *health.Failure
	if !errors.As(err, &f) || f.Output != "first\ndisk is full\n" {
		t.Errorf("output: got %+v", f)
	}
	if err := check(t, command("/nonexistent/probe")); err == nil {
		t.Error("a command that is not there is healthy")
	}
}

func TestHangingCommandIsEnded(t *testing.T) {
	p := shell("trap '' TERM INT HUP; echo waiting; while :; do sleep 1000; done")
	p.Timeout = 300 * time.Millisecond
	if err := check(t, p); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledCheckEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&health.Runner{}).Check(ctx, shell("sleep 1000")); err == nil {
		t.Error("healthy though it was cancelled")
	}
}

// A probe that forks leaves nothing running, whether it ends well or hangs.
func TestProbesChildrenAreKilled(t *testing.T) {
	for name, c := range map[string]struct {
		script  string
		timeout time.Duration
	}{
		"ends well": {"sleep 1000 & echo $! >$0; exit 0", 20 * time.Second},
		"hangs":     {"sleep 1000 & echo $! >$0; wait", 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			p := command("/bin/sh", "-c", c.script, file)
			p.Timeout = c.timeout
			err := check(t, p)
			if (err == nil) != (name == "ends well") {
				t.Errorf("got error %v", err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			for range 200 {
				if gone(pid) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("child %d still runs", pid)
		})
	}
}

// gone reports whether a process has ended; a zombie that nobody reaped has.
func gone(pid int) bool {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

// A child in a session of its own that keeps the output open does not hold up the
// check, and does not turn a good exit code into a failure.
func TestEscapedChildDoesNotHoldUpTheCheck(t *testing.T) {
	needs.Tools(t, "/usr/bin/setsid")
	file := filepath.Join(t.TempDir(), "pid")
	p := command("/bin/sh", "-c", "/usr/bin/setsid sh -c 'echo $$ >$0; exec sleep 1000' $0 & while ! [ -s $0 ]; do sleep 0.01; done; exit 0", file)
	t.Cleanup(func() {
		if b, err := os.ReadFile(file); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	})
	if err := check(t, p); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestFloodOfOutputIsBounded(t *testing.T) {
	err := check(t, shell("head -c 5000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 1"))
	var f *health.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v", err)
	}
	if len(f.Output) > health.MaxEvidence || !strings.HasSuffix(f.Output, "the end\n") {
		t.Errorf("output of %d bytes ends with %q", len(f.Output), f.Output[max(0, len(f.Output)-20):])
	}
	if len(f.Text) > 400 {
		t.Errorf("text of %d bytes", len(f.Text))
	}
}

func TestUnitFollowsIsActive(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "systemctl")
	script := "#!/bin/sh\n[ \"$1 $2\" = 'is-active --' ] || exit 9\ncase $3 in good.service) echo active;; *) echo activating; exit 3;; esac\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &health.Runner{Systemctl: []string{fake}}
	if err := r.Check(t.Context(), health.Probe{Name: "u", Unit: "good.service"}); err != nil {
		t.Errorf("active: %v", err)
	}
	err := r.Check(t.Context(), health.Probe{Name: "u", Unit: "slow.service"})
	if err == nil || err.Error() != "unit slow.service is activating" {
		t.Errorf("activating: got %v", err)
	}
}

type network struct{ got health.Probe }

func (n *network) Probe(_ context.Context, p health.Probe) error {
	n.got = p
	return errors.New("status 503")
}

func TestEndpointsAreProbedByTheNetwork(t *testing.T) {
	n := &network{}
	p := health.Probe{Name: "w", HTTP: "http://127.0.0.1/"}
	err := (&health.Runner{Network: n}).Check(t.Context(), p)
	if err == nil || err.Error() != "status 503" || n.got.HTTP != p.HTTP {
		t.Errorf("got %v for %+v", err, n.got)
	}
	if err := check(t, p); err == nil {
		t.Error("healthy without a network to probe from")
	}
}

func TestProbeSeesNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("TWINKEEL_PASSPHRASE_FILE", "secret")
	if err := check(t, shell(`[ -z "$TWINKEEL_PASSPHRASE_FILE" ] && [ "$TWINKEEL_PROBE" = p ] && [ "$PWD" = / ]`)); err != nil {
		t.Error(err)
	}
}
