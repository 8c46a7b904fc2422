package boot

import (
	"context"
	"os"

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
		err = report.Save(k.dir, report.Boot{Slot: k.order.Slot, Root: k.order.Root, Version: k.order.Version, Uptime: uptime()}, log)
	}
	if err != nil {
		k.say("kernel's log is not kept: %v", err)
	}
}
