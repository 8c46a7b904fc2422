package writer

import (
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// openLoader returns the configured boot loader, and the clock of its boots. A loader
// that cannot be opened is one that answers every question with that error: the agent
// then runs, reports code "loader", and changes nothing.
func openLoader(b config.Boot) (bootloader.BootLoader, func() time.Duration) {
	var l bootloader.BootLoader
	var err error
	switch b.Loader {
	case "simulated":
		if b.Path == "" {
			return brokenLoader{errNoPath}, sinceBoot
		}
		if l, err = simulated.Open(b.Path); err == nil {
			// Its boots are starts of the agent: the kernel keeps running.
			return l, sinceNow()
		}
	default:
		err = fmt.Errorf("boot.loader: got %q, which this program does not have", b.Loader)
	}
	return brokenLoader{err}, sinceBoot
}
