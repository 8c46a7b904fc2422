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

// openLoader returns the configured boot loader, and the clock of its boots. A loader
// that cannot be opened is one that answers every question with that error: the agent
// then runs, reports code "loader", and changes nothing.
func openLoader(b config.Boot, log *slog.Logger) (bootloader.BootLoader, func() time.Duration) {
	found, err := backends.Open(b.Loader, b.Path)
	if err != nil {
		return brokenLoader{err}, sinceBoot
	}
	log.Info("boot loader", "name", found.Name, "why", found.Reason)
	if found.Name == backends.Simulated {
		// Its boots are starts of the agent: the kernel keeps running.
		return found.Loader, sinceNow()
	}
	return found.Loader, sinceBoot
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
