package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
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
	needs.That(t, err == nil, fmt.Sprintf("what boots a real machine: %v", err))
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
	c     Config
	m     *Machine
	ctx   context.Context
	start time.Time
	boots int
	cpu   time.Duration
}

// power starts a machine, to be stopped when the test ends.
func power(t *testing.T, c Config) *driver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c.Log = c.Disk + ".log"
	d := &driver{T: t, c: c, ctx: ctx, start: time.Now()}
	d.on()
	t.Cleanup(func() {
		d.stop()
		t.Logf("%d boots: %.1f s of processor, %.1f s", d.boots, d.cpu.Seconds(), time.Since(d.start).Seconds())
		if t.Failed() {
			b, _ := os.ReadFile(c.Log)
			t.Logf("console:\n%s", b[max(0, len(b)-8000):])
		}
	})
	return d
}

// on powers the machine on.
func (d *driver) on() {
	d.Helper()
	var err error
	if d.m, err = Start(d.ctx, d.c); err != nil {
		d.Fatal(err)
	}
	d.boots++
}

// off waits until the guest has ended the machine.
func (d *driver) off() {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, bootLimit)
	defer cancel()
	if err := d.m.Ended(ctx); err != nil {
		d.Fatal(err)
	}
	d.stop()
}

// stop cuts the power, if it is on.
func (d *driver) stop() {
	if d.m != nil {
		d.cpu += d.m.Stop()
		d.m = nil
	}
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

// order types orders, and waits for each to be carried out; after "reboot" the machine is
// on again.
func (d *driver) order(lines ...string) {
	d.Helper()
	for _, line := range lines {
		if err := d.m.Say(line); err != nil {
			d.Fatal(err)
		}
		switch line {
		case "off":
			d.off()
			continue
		case "reboot":
			d.off()
			d.on()
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
