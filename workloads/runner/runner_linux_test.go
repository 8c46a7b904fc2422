package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAUnitRunsAndStops(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		u := h.actor("sleep")
		h.start(u)
		if st := h.status(); !st.Running || st.Version != u.Manifest.Version || st.Generation != "1" {
			t.Errorf("status: got %+v", st)
		}
		h.eventually("a line in the log", func() bool { return strings.Contains(h.said(), "Z sleeping\n") })
		if err := h.Start(t.Context(), u); err == nil {
			t.Error("it was started twice")
		}
		if out, code := h.exec("/bin/actor", "read", "/proc/self/uid_map"); code != 0 || !strings.Contains(out, "536870912") {
			t.Errorf("exec: got %q and code %d", out, code)
		}
		if err := h.Stop(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		contains(t, h.said(), "woken")
		if st := h.status(); st.Running || st.Version != u.Manifest.Version {
			t.Errorf("status after stop: got %+v", st)
		}
	})
}

// A runtime may come back before the application's program is executed, and with it the filter
// of system calls. Nobody is told that it runs until then.
func TestAStartIsOverWhenTheProgramRuns(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		u := h.actor("sleep")
		for range 15 {
			h.start(u)
			for _, pid := range h.apps() {
				program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
				if err != nil || filepath.Base(program) != "actor" {
					t.Errorf("got program %q, %v, want actor", program, err)
				}
			}
			if err := h.Stop(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
