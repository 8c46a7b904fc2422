package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/data"
	"github.com/twinkeel/twinkeel/workloads/runner"
	"github.com/twinkeel/twinkeel/workloads/shim"
	"github.com/twinkeel/twinkeel/workloads/store"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// The directories of applications that a reboot may empty, and those that it may not lie
// in the configured one.
const (
	runDir = "/run/twinkeel/apps"
	idsDir = "ids" // in the state directory
)

// openApps returns what the agent needs to run applications; nil if none are wanted.
func openApps(c *config.Config, state durable.Dir, log *slog.Logger) (*agent.Apps, error) {
	if len(c.Apps.Wanted) == 0 || state == nil {
		return nil, nil
	}
	if err := os.MkdirAll(c.Apps.Path, 0o711); err != nil {
		return nil, fmt.Errorf("directory of applications: %w", err)
	}
	images, err := store.Open(filepath.Join(c.Apps.Path, "images"))
	if err != nil {
		return nil, err
	}
	volumes, err := data.Open(filepath.Join(c.Apps.Path, "data"))
	if err != nil {
		return nil, err
	}
	a := &agent.Apps{Allow: c.Apps.Allow, Deny: c.Apps.Deny, Keep: c.Apps.Keep, Isolation: c.Apps.Isolation, Arch: runtime.GOARCH, Images: images, Data: volumes}
	for _, w := range c.Apps.Wanted {
		a.Wanted = append(a.Wanted, agent.AppWish(w))
	}
	run, err := openRunner(c, state, log)
	if err != nil {
		// The host and its updates go on; each app says why it does not run.
		log.Error("applications cannot be run", "err", err)
		a.Runner, a.Prober = brokenRunner{err}, brokenRunner{err}
		a.Doctor = func(context.Context) []string { return []string{err.Error()} }
		a.Ready = func(context.Context, *release.AppManifest) ([]string, error) {
			return nil, errors.Join(workloads.ErrMissing, err)
		}
		return a, nil
	}
	a.Runner, a.Prober, a.Doctor, a.Ready, a.Free = run, run, run.Doctor, run.Ready, run.Free
	return a, nil
}

func openRunner(c *config.Config, state durable.Dir, log *slog.Logger) (*runner.Runner, error) {
	o, err := runnerOptions(c, state, log)
	if err != nil {
		return nil, err
	}
	return runner.Open(context.Background(), o)
}

// runnerOptions say where the host's runner keeps what it has.
func runnerOptions(c *config.Config, state durable.Dir, log *slog.Logger) (runner.Options, error) {
	var none runner.Options
	ids, err := state.Sub(idsDir)
	if err != nil {
		return none, err
	}
	network, err := netip.ParsePrefix(c.Apps.Network)
	if err != nil {
		return none, err
	}
	exe, err := os.Executable()
	if err != nil {
		return none, err
	}
	return runner.Options{
		Instance: c.Apps.Instance, Run: runDir, IDs: ids, LogDir: filepath.Join(c.Apps.Path, "log"), Runtime: c.Apps.Runtime, Sandbox: c.Apps.Sandbox,
		Machines: vm.Wish{QEMU: c.Apps.QEMU, Kernel: c.Apps.Kernel, Modules: c.Apps.Modules},
		Shim:     []string{shim.Program(exe)}, Bridge: c.Apps.Bridge, Network: network, Log: log,
	}, nil
}

// OpenConsole returns what looks into the applications that run, whoever started them.
func OpenConsole(c *config.Config, log *slog.Logger) (workloads.Console, error) {
	state, err := durable.OpenDir(c.State, false)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	o, err := runnerOptions(c, state, log)
	if err != nil {
		return nil, err
	}
	return runner.View(o), nil
}

// brokenRunner stands for a runner that could not be opened.
type brokenRunner struct{ err error }

// Start returns why there is no runner.
func (r brokenRunner) Start(context.Context, workloads.Unit) error {
	return errors.Join(workloads.ErrMissing, r.err)
}

// Stop returns the error.
func (r brokenRunner) Stop(context.Context, string) error { return r.err }

// Status says that nothing runs.
func (r brokenRunner) Status(context.Context, string) (workloads.State, error) {
	return workloads.State{Exit: r.err.Error()}, nil
}

// Healthy returns the error.
func (r brokenRunner) Healthy(context.Context, string) error { return r.err }

// errNoSlots is what a host without slots says to whatever would change one.
var errNoSlots = errors.New("this host has no slots: its system is not updated")

// noSlots are the partitions of such a host.
type noSlots struct{}

// OpenRead refuses.
func (noSlots) OpenRead(partitions.Slot, string) (partitions.OpenDevice, error) {
	return nil, errNoSlots
}

// OpenWrite refuses.
func (noSlots) OpenWrite(partitions.Slot, string) (partitions.OpenDevice, error) {
	return nil, errNoSlots
}

// hostLoader is the boot record of a host without slots: the system that runs is all
// there is, and it stands.
type hostLoader struct{}

// standing is what such a record says.
var standing = bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {}}}

// Booted tells boots apart by the kernel's id of this one.
func (hostLoader) Booted(context.Context) (bootloader.Boot, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("boot id: %w", err)
	}
	return bootloader.Boot{ID: strings.TrimSpace(string(b)), Slot: partitions.A, Firmware: true}, nil
}

// Load returns the one state.
func (hostLoader) Load(context.Context) (bootloader.State, error) { return standing, nil }

// Store refuses any other.
func (hostLoader) Store(_ context.Context, s bootloader.State) error {
	if s.Slots != standing.Slots {
		return errNoSlots
	}
	return nil
}

// Describe refuses: there is nothing to describe.
func (hostLoader) Describe(context.Context, partitions.Slot, bootloader.Description) error {
	return errNoSlots
}
