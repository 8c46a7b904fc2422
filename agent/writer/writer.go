package writer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/boot/report"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// Version is this agent's version: what a manifest's minUpdater is compared with.
const Version = "0.1.0"

// Writer is a real agent and what it holds open.
type Writer struct {
	*agent.Agent
	net *lateNet
}

// Open returns the agent of this machine. create makes the state directory if it is
// not there; only who sets the host up asks for that, because an empty directory in
// the place of a data partition that is not mounted would look like a new host.
func Open(c *config.Config, log *slog.Logger, create bool) (*Writer, error) {
	version, err := release.ParseVersion(Version)
	if err != nil {
		return nil, err
	}
	if c.HostID == "" {
		log.Warn("host has no id: there is no machine id, and hostID is not configured")
	}
	loader, uptime, why := openLoader(c, log)
	slots, err := openSlots(c, loader)
	if err != nil {
		return nil, err
	}
	state, stateErr := durable.OpenDir(c.State, create)
	if stateErr != nil {
		// Not wrapped: that the directory is not there must never read as a file in it
		// that is not there, which would be a host without a past.
		state, stateErr = nil, fmt.Errorf("state directory: %v", stateErr)
	}
	factory, err := readRoot(c.Root)
	if err != nil {
		log.Warn("factory root cannot be read", "err", err)
	}
	apps, err := openApps(c, state, log)
	if err != nil {
		// The system's own updates, and the way back, do not depend on applications.
		log.Error("applications cannot be run", "err", err)
		apps = nil
	}
	net := &lateNet{config: c, log: log}
	a, err := agent.New(agent.Options{
		Updater: version, Channel: c.Channel, Fleet: c.Fleet, Compatible: c.Compatible, HostID: c.HostID,
		Rollout: c.Rollout, Images: c.Images(), Tries: c.Boot.Tries, Windows: c.Update.Windows, Location: time.Local,
		Interval: c.Poll.Interval, Rules: health.Rules{Deadline: c.Health.Deadline, Soak: c.Health.Soak}, Probes: c.Health.Probes,
		State: state, StateErr: stateErr, Factory: factory, BuildTime: buildTime(),
		Slots: slots, Loader: loader, LoaderReason: why, Net: net, Bundle: net.bundle,
		Health: &health.Runner{Network: net}, Clock: clock{}, Uptime: uptime, Random: rand.Uint64,
		Reboot: rebooter(c.Boot.Reboot), Log: log, Apps: apps,
		KernelLog: report.Host().Last, Damage: func() string { return report.Damage(report.DamageFile) },
	})
	if err != nil {
		return nil, err
	}
	return &Writer{Agent: a, net: net}, nil
}

func openSlots(c *config.Config, loader bootloader.BootLoader) (agent.Slots, error) {
	if !c.HasSlots() {
		return noSlots{}, nil
	}
	return partitions.NewSet(c.Slots, func() (partitions.Slot, error) {
		b, err := loader.Booted(context.Background())
		return b.Slot, err
	})
}

// Close ends the process without privileges, if it runs.
func (w *Writer) Close() error { return w.net.close() }

// maxRoot bounds the factory's trust root, in bytes.
const maxRoot = 64 << 10

func readRoot(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRoot+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxRoot {
		return nil, fmt.Errorf("%s: got more than %d bytes", path, maxRoot)
	}
	return b, nil
}
