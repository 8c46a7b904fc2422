package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeel/twinkeel/boot/report"
)

// kernelLog is the device of the kernel's log.
const kernelLog = "/dev/kmsg"

// keeper keeps the kernel's log on the data partition.
type keeper struct {
	dir   string
	order Order
	say   func(string, ...any)
	one   chan struct{} // holds a token while the log is being kept
}

// keep keeps the log as it is now. Without a data partition there is no place for it.
func (k keeper) keep(ctx context.Context) {
	if _, err := os.Stat(k.dir); err != nil {
		return
	}
	select {
	case k.one <- struct{}{}:
		defer func() { <-k.one }()
	case <-ctx.Done():
		return
	}
	log, err := report.KernelLog(kernelLog)
	if err == nil {
		err = report.Save(k.dir, k.order.boot(), log)
	}
	if err != nil {
		k.say("kernel's log is not kept: %v", err)
	}
	if err == nil && !report.Marked(log) {
		if err := mark(k.order); err != nil {
			k.say("mark in the kernel's log: %v", err)
		}
	}
}

// boot is what a report says of the boot that this order began.
func (o Order) boot() report.Boot {
	return report.Boot{Slot: o.Slot, Root: o.Root, Version: o.Version, Uptime: uptime()}
}

// mark writes into the kernel's log which boot it is of, for when the kernel panics and
// saves the end of that log itself. It is not for the console.
func mark(o Order) error {
	f, err := os.OpenFile(kernelLog, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "<6>twinkeel-init: %s\n", report.Mark(o.boot()))
	return errors.Join(err, f.Close())
}

// takePanics moves what kernels saved in their panics to the data partition, before it is
// overwritten, or fills what the firmware has for it.
func (s *Stage) takePanics() {
	if !s.written {
		return
	}
	boots, err := report.Take(report.Pstore, filepath.Join(s.data, layersDir))
	for _, b := range boots {
		s.Say("slot %s, version %.40s, panicked at %s: its kernel's log is kept", b.Slot, b.Version, b.Panic.UTC().Format(time.RFC3339))
	}
	if err != nil {
		s.Say("logs of panics: %v", err)
	}
}
