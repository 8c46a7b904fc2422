package writer

import (
	"context"
	"log/slog"
	"time"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/backends"
)

// openLoader returns the configured boot loader, the clock of its boots, and why it is
// this one. A loader that cannot be opened is one that answers every question with that
// error: the agent then runs, reports code "loader", and changes nothing.
func openLoader(c *config.Config, log *slog.Logger) (bootloader.BootLoader, func() time.Duration, string) {
	if !c.HasSlots() {
		return hostLoader{}, sinceBoot, "this host has no slots: it runs applications only"
	}
	found, err := backends.Open(backends.Config{Name: c.Boot.Loader, Path: c.Boot.Path, Kernels: kernels(c.Slots)})
	if err != nil {
		return brokenLoader{err}, sinceBoot, ""
	}
	log.Info("boot loader", "name", found.Name, "why", found.Reason)
	if found.Name == backends.Simulated {
		// Its boots are starts of the agent: the kernel keeps running.
		return found.Loader, sinceNow(), found.Reason
	}
	return found.Loader, sinceBoot, found.Reason
}

// kernels opens the image "boot" of a slot, for a loader that wants its own copy; nil if
// the slots have no such image.
func kernels(slots map[partitions.Slot]map[string]string) func(partitions.Slot) (partitions.OpenDevice, error) {
	for _, slot := range partitions.Slots {
		if slots[slot]["boot"] == "" {
			return nil
		}
	}
	return func(slot partitions.Slot) (partitions.OpenDevice, error) {
		path, err := partitions.Resolve(slots[slot]["boot"])
		if err != nil {
			return nil, err
		}
		return partitions.OpenRead(path)
	}
}

// brokenLoader stands for a boot loader that could not be opened.
type brokenLoader struct{ err error }

// Booted returns why there is no loader, and so do the others.
func (l brokenLoader) Booted(context.Context) (bootloader.Boot, error) {
	return bootloader.Boot{}, l.err
}

// Load returns the error.
func (l brokenLoader) Load(context.Context) (bootloader.State, error) {
	return bootloader.State{}, l.err
}

// Store returns the error.
func (l brokenLoader) Store(context.Context, bootloader.State) error { return l.err }

// Describe returns the error.
func (l brokenLoader) Describe(context.Context, partitions.Slot, bootloader.Description) error {
	return l.err
}
