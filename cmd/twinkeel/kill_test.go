package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// The real daemon is killed with SIGKILL at random moments, again and again: while it
// reads trust, downloads, writes the slot, arms, judges. Then it is left alone, and the
// newest release runs, bit for bit, with the old one untouched beside it.
func TestTheDaemonSurvivesKillsAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binaries and makes releases")
	}
	w := build(t)
	const kills = 200
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	landed := 0
	for host := 0; landed < kills; host++ {
		landed += w.killed(t, r, host)
	}
	t.Logf("%d kills landed while the daemon was at work", landed)
}

// killed brings one host from 1.0 to 3.0 with kills in between, and returns how many.
func (w *world) killed(t *testing.T, r *rand.Rand, host int) (landed int) {
	t.Helper()
	e := &testscript.Env{WorkDir: t.TempDir()}
	if err := w.setup(e); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(e.WorkDir, "twinkeel.toml")
	run := func(name string, args ...string) (string, error) {
		out, err := exec.Command(filepath.Join(w.bin, name), append([]string{"--config", config}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("twinkeel", "init", "--manifest", e.Getenv("MANIFEST")); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	reboots := filepath.Join(e.WorkDir, "reboots")
	for round := 0; round < 60; round++ {
		daemon := exec.Command(filepath.Join(w.bin, "twinkeeld"), "--config", config, "--once")
		daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		if round < 30 {
			// One boot's work takes some 200 milliseconds on an idle machine.
			timer := time.AfterFunc(time.Duration(r.Int64N(int64(200*time.Millisecond))), func() { _ = daemon.Process.Kill() })
			if err := daemon.Wait(); err != nil && !timer.Stop() && daemon.ProcessState.ExitCode() == -1 {
				landed++
			}
		} else {
			_ = daemon.Wait() // its exit code tells policy, not failure
		}
		if _, err := os.Stat(reboots); err == nil {
			if err := os.Remove(reboots); err != nil {
				t.Fatal(err)
			}
			l, err := simulated.Open(filepath.Join(e.WorkDir, "record"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.PowerOn(t.Context(), "kill-"+strconv.Itoa(host)+"-"+strconv.Itoa(round), nil); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := run("twinkeel", "status"); err == nil && strings.Contains(out, "slot b  running  3.0  good") {
			w.checkSlots(t, e.WorkDir, run)
			return landed
		}
	}
	out, _ := run("twinkeel", "status")
	history, _ := run("twinkeel", "history")
	t.Fatalf("host %d does not run 3.0 in the end\n%s%s", host, out, history)
	return landed
}

func (w *world) checkSlots(t *testing.T, dir string, run func(string, ...string) (string, error)) {
	t.Helper()
	if out, err := run("twinkeel", "verify"); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	for name, v := range map[string]string{"root-a": "1.0", "root-b": "3.0"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, w.images[v]) {
			t.Errorf("%s does not hold release %s", name, v)
		}
	}
}
