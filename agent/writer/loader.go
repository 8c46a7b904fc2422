package writer

import (
	"log/slog"
	"time"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/backends"
)

// openLoader returns the boot loader, and the clock of its boots. One that cannot be
// opened becomes a loader that answers every question with that error: the agent then
// runs, reports code "loader", and changes nothing.
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
