package stray_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/twinkeel/twinkeel/workloads/stray"
)

func TestWhatForksForEverAndLeavesItsSessionEndsAndNobodyElse(t *testing.T) {
	start := func(mark string) *exec.Cmd {
		c := exec.Command("sh", "-c", `setsid sleep 100 & echo; while :; do setsid sleep 100; done`)
		c.Env = append(c.Environ(), "STRAY_TEST="+mark)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err == nil {
			_, err = out.Read(make([]byte, 1)) // it is at work
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mine, other := start(t.Name()+"-1"), start(t.Name()+"-2")
	stray.End(stray.All, "STRAY_TEST="+t.Name()+"-1")
	if err := mine.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want it killed", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other: %v, want it alive", err)
	}
	stray.End(stray.All, "STRAY_TEST="+t.Name()+"-2")
	_ = other.Wait()
}
