package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/shim"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// held makes the shim of a sleeping web ready, but gives it no word.
func (h *host) held(id string) (*shim.Held, shim.Client) {
	h.t.Helper()
	h.start(h.actor("sleep"))
	entries, err := filepath.Glob(filepath.Join(h.options.Run, "web.*"))
	if err != nil || len(entries) != 1 {
		h.t.Fatalf("directories: got %v, %v, want one", entries, err)
	}
	o, err := shim.ReadOrder(entries[0])
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Stop(h.t.Context(), "web"); err != nil {
		h.t.Fatal(err)
	}
	o.ID, o.Log = id, filepath.Join(h.dir, "held", "output")
	dir := filepath.Join(h.options.Run, id)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		h.t.Fatal(err)
	}
	if err := shim.WriteOrder(dir, *o); err != nil {
		h.t.Fatal(err)
	}
	ids, err := mount.Map(mount.IDs{First: o.FirstID, Size: spec.IDs})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = ids.Close() }()
	p, err := shim.Prepare(h.t.Context(), h.options.Shim, dir, shim.Given{IDs: ids})
	if err != nil {
		h.t.Fatal(err)
	}
	return p, shim.Client{Dir: dir}
}

// What is ready to be switched to has not run, and does not outlive who made it so.
func TestAnApplicationThatIsHeldRunsAtTheWordAndNeverWithoutIt(t *testing.T) {
	for what, end := range map[string]func(*testing.T, *host, *shim.Held, shim.Client){
		"the agent ends": func(t *testing.T, _ *host, p *shim.Held, _ shim.Client) {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		},
		"it is stopped": func(t *testing.T, _ *host, p *shim.Held, c shim.Client) {
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			_ = p.Close()
		},
		"the word": func(t *testing.T, h *host, p *shim.Held, c shim.Client) {
			if _, err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.eventually("its first words", func() bool { return strings.Contains(heldLog(h), "sleeping") })
			if st, err := c.Status(t.Context()); err != nil || !st.State.Running || st.State.Exit != "" {
				t.Errorf("started: got %+v, %v, want that it runs, and never ended", st, err)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, h *host) {
				p, c := h.held("web.held")
				if st, err := c.Status(t.Context()); err != nil || st.State.Running || !strings.Contains(st.State.Exit, "shim") {
					t.Errorf("held: got %+v, %v, want that it does not run, and why", st, err)
				}
				end(t, h, p, c)
				h.eventually("the end of the shim", func() bool { up, err := c.Alive(); return err == nil && !up })
				if left := oci.Groups().Members(groups + "web.held"); len(left) > 0 {
					t.Errorf("processes are left: %v", describe(left))
				}
				if ran := heldLog(h) != ""; ran != (what == "the word") {
					t.Errorf("its output: got %q", heldLog(h))
				}
			})
		})
	}
}

func heldLog(h *host) string {
	b, _ := os.ReadFile(filepath.Join(h.dir, "held", "output"))
	return string(b)
}
