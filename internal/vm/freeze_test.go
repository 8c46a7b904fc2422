package vm

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// A machine is frozen when its kernel first reads the disk; what goes on from there, on a copy of the
// disk, comes up as the machine itself would have, and asks for none of what the loader read.
func TestAFrozenMachineGoesOnOnAnotherDisk(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.grubDisk(t, dir)
	other, trace, frozen := filepath.Join(dir, "other.img"), filepath.Join(dir, "trace"), filepath.Join(dir, "frozen")
	if err := Clone(disk, other); err != nil {
		t.Fatal(err)
	}
	d := power(t, Config{Disk: disk, Trace: trace, Freezes: true})
	ctx, cancel := context.WithTimeout(d.ctx, bootLimit)
	defer cancel()
	if err := d.m.KernelReads(ctx, trace); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Freeze(ctx, frozen); err != nil {
		t.Fatal(err)
	}
	before, err := ReadTrace(trace)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.m.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	d.stop()
	d.c.Disk, d.c.Freezes, d.c.Frozen = other, false, frozen
	began := time.Now()
	d.on()
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	t.Logf("%.1f s from there", time.Since(began).Seconds())
	after, err := ReadTrace(trace)
	if err != nil {
		t.Fatal(err)
	}
	read := func(list []Access) (n int64) {
		for _, a := range list {
			n += a.Size
		}
		return n
	}
	if read(before) < 10*mib || read(after) > mib {
		t.Errorf("read %d bytes before, %d after; want kernel and initramfs read before", read(before), read(after))
	}
	d.stop()
}
