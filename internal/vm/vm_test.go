package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// bootLimit is how long one boot may take. An idle machine takes four seconds; a limit
// that is much larger fails only machines that hang.
const bootLimit = 4 * time.Minute

// rig is what a test boots with.
type rig struct {
	Tools
	kernel []byte
	guest  string // the program that is init
}

// newRig finds the tools and builds the guest, or skips.
func newRig(t *testing.T) rig {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines: not in short mode")
	}
	tools, err := FindTools("../../.cache/vm")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("NO REAL BOOT IS TESTED: ", err)
	}
	r := rig{Tools: tools, guest: filepath.Join(t.TempDir(), "guest")}
	if r.kernel, err = os.ReadFile(tools.Kernel); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", r.guest, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("guest: %v: %s", err, out)
	}
	return r
}

// initramfs returns the initramfs of a slot that holds release.
func (r rig) initramfs(t *testing.T, release string) []byte {
	t.Helper()
	b, err := r.Initramfs(r.guest, release)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// driver drives one machine.
type driver struct {
	*testing.T
	m     *Machine
	ctx   context.Context
	start time.Time
}

// power starts a machine, to be stopped when the test ends.
func power(t *testing.T, c Config) *driver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if c.Log == "" {
		c.Log = c.Disk + ".log"
	}
	m, err := Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t, m, ctx, time.Now()}
	t.Cleanup(func() {
		t.Logf("machine: %.1f s of processor, %.1f s", m.Stop().Seconds(), time.Since(d.start).Seconds())
		if t.Failed() {
			b, _ := os.ReadFile(c.Log)
			t.Logf("console:\n%s", b[max(0, len(b)-8000):])
		}
	})
	return d
}

// see waits for a line with one of the words and returns it from there on.
func (d *driver) see(words ...string) string {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, bootLimit)
	defer cancel()
	line, err := d.m.Await(ctx, words...)
	if err != nil {
		d.Fatal(err)
	}
	return line
}

// want waits for the next answer of the guest that begins with word, and checks it.
func (d *driver) want(word, line string) {
	d.Helper()
	if got := d.see("VM "+word, "VM fatal", "VM error"); got != "VM "+line {
		d.Fatalf("got %q, want %q", got, "VM "+line)
	}
	d.Logf("%5.1fs %s", time.Since(d.start).Seconds(), line)
}

// order types orders, and waits for each to be carried out.
func (d *driver) order(lines ...string) {
	d.Helper()
	for _, line := range lines {
		if err := d.m.Say(line); err != nil {
			d.Fatal(err)
		}
		if line == "reboot" || line == "off" {
			continue
		}
		if got := d.see("VM done", "VM error"); got != "VM done "+line {
			d.Fatal(got)
		}
		d.Logf("%5.1fs order %s", time.Since(d.start).Seconds(), line)
	}
}

// booted checks what comes up next, and what the record holds then.
func (d *driver) booted(up, record string) {
	d.Helper()
	d.want("up", "up "+up)
	if record != "" {
		d.want("record", "record "+record)
	}
	d.see("VM ready")
}
