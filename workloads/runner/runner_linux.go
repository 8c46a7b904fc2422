package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/network"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/shim"
	"github.com/twinkeel/twinkeel/workloads/spec"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// Options are where a Runner keeps what it has.
type Options struct {
	// Instance tells this Runner from others on the machine: its control group and its table
	// of the packet filter are called so. Run, LogDir, IDs, Bridge and Network are another's
	// neither. "": "twinkeel".
	Instance string

	Run    string      // directory for shims, on a file system that a reboot empties
	IDs    durable.Dir // where ranges of ids are remembered for good
	LogDir string      // directory of applications' output
	// Runtime is the command of the container runtime, Sandbox that of level sandbox;
	// empty: whatever the host has.
	Runtime, Sandbox string
	Machines         vm.Wish  // for level vm
	Shim             []string // command that runs shim.Main for the directory that is appended
	Bridge           string   // name of the bridge of private networks
	Network          netip.Prefix
	Log              *slog.Logger
}

// Runner runs units by shims. It is safe for concurrent use; there is one on a host.
type Runner struct {
	Options
	finder oci.Finder

	mu sync.Mutex // held while roles change
	// mappings are to the ids of applications that were started, by the first of them. They
	// are kept: each takes a process to make, and is what each start needs.
	mappings map[uint32]*mount.Mapping
	images   map[string]*kept // by names of units
	// failed counts the recoveries in a row that did not mend everything; pending says that
	// the next one is on its way.
	failed  int
	pending bool
}

var (
	_ workloads.Runner   = (*Runner)(nil)
	_ workloads.Prober   = (*Runner)(nil)
	_ workloads.Switcher = (*Runner)(nil)
	_ workloads.Console  = (*Runner)(nil)
)

// Open returns a Runner, after it has ended what an earlier one wanted to end, and has
// started again whatever lost its shim. What of that fails is tried again and again: one
// unit must not keep the others from being run.
func Open(ctx context.Context, o Options) (*Runner, error) {
	// Applications' own users pass through these directories, and list none of them.
	if err := os.MkdirAll(o.Run, 0o711); err != nil {
		return nil, fmt.Errorf("run apps: %w", err)
	}
	r := &Runner{Options: o}
	if r.Instance == "" {
		r.Instance = "twinkeel"
	}
	if _, err := readBook(r.Run); err != nil {
		return nil, err
	}
	if err := r.Recover(ctx); err != nil {
		r.Log.Error("not everything that ran runs again", "err", err)
	}
	return r, nil
}

// View returns what looks into the units of the host's one Runner, from another process
// than that one's: it changes nothing, and is asked for nothing that would.
func View(o Options) interface {
	workloads.Prober
	workloads.Console
} {
	return &Runner{Options: o}
}

func (r *Runner) dir(id string) string          { return filepath.Join(r.Run, id) }
func (r *Runner) client(id string) shim.Client  { return shim.Client{Dir: r.dir(id)} }
func (r *Runner) log(name string) string        { return filepath.Join(r.LogDir, name, "output") }
func (r *Runner) trialLog(id string) string     { return filepath.Join(r.dir(id), "log") }
func (r *Runner) runtimeState() string          { return filepath.Join(r.Run, "runtime") }
func (r *Runner) alive(id string) (bool, error) { return r.client(id).Alive() }
func (r *Runner) edit(b *book, name string, change func(*roles)) error {
	entry := b.Units[name]
	change(&entry)
	b.Units[name] = entry
	return b.write(r.Run)
}

// respawn starts a new shim for an order that has lost its own.
func (r *Runner) respawn(ctx context.Context, id string, trial bool) error {
	o, err := shim.ReadOrder(r.dir(id))
	if err != nil {
		return err
	}
	sockets, err := r.listeners(o.Unit.Manifest.Network.Sockets, trial)
	if err != nil {
		return err
	}
	defer closeAll(sockets)
	return r.spawn(ctx, o, sockets)
}

// spawn starts the shim of an order, and starts another when it is lost.
func (r *Runner) spawn(ctx context.Context, o *shim.Order, sockets []*os.File) error {
	if err := r.bridge(ctx, o); err != nil {
		return err
	}
	given, err := r.given(o, sockets)
	if err != nil {
		return err
	}
	ended, err := shim.Spawn(ctx, r.Shim, r.dir(o.ID), given)
	closeImage(given)
	if err != nil {
		return err
	}
	go r.watch(o, ended)
	return nil
}

// given is what the shim of an order is handed over.
func (r *Runner) given(o *shim.Order, sockets []*os.File) (shim.Given, error) {
	ids, err := r.mapping(o.FirstID)
	if err != nil {
		return shim.Given{}, err
	}
	return shim.Given{IDs: ids, Sockets: sockets, Image: r.image(o)}, nil
}

func closeImage(g shim.Given) {
	if g.Image != nil {
		_ = g.Image.Close()
	}
}

// mapping is that to the ids from first on.
func (r *Runner) mapping(first uint32) (*mount.Mapping, error) {
	if m := r.mappings[first]; m != nil {
		return m, nil
	}
	m, err := mount.Map(mount.IDs{First: first, Size: spec.IDs})
	if err != nil {
		return nil, err
	}
	if r.mappings == nil {
		r.mappings = map[uint32]*mount.Mapping{}
	}
	r.mappings[first] = m
	return m, nil
}

// bridge makes the one that an order's link leads to, if it has one.
func (r *Runner) bridge(ctx context.Context, o *shim.Order) error {
	if o.Link == nil {
		return nil
	}
	return network.Up(ctx, r.Bridge, netip.PrefixFrom(o.Link.Gateway, o.Link.Address.Bits()))
}

// sweep takes directories away that no role names: of starts and stops that were cut.
func (r *Runner) sweep(ctx context.Context, known map[string]bool) error {
	entries, err := os.ReadDir(r.Run)
	if err != nil {
		return err
	}
	var problems []error
	for _, e := range entries {
		if e.IsDir() && !known[e.Name()] && r.dir(e.Name()) != r.runtimeState() {
			problems = append(problems, r.finish(ctx, e.Name()))
		}
	}
	return errors.Join(problems...)
}

// finish ends a shim and its application, however much of them there is, and takes the
// directory away.
func (r *Runner) finish(ctx context.Context, id string) error {
	up, err := r.alive(id)
	if err == nil && up {
		err = r.client(id).Stop(ctx)
		if err == nil {
			err = r.gone(ctx, id)
		}
	}
	if err != nil {
		r.Log.Warn("shim does not answer and is ended", "id", id, "err", err)
	}
	return r.remove(ctx, id)
}

// remove ends what is left of a shim that was told to end, and takes the directory away.
func (r *Runner) remove(ctx context.Context, id string) error {
	if err := shim.CleanUp(ctx, r.dir(id)); err != nil {
		return fmt.Errorf("end %s: %w", id, err)
	}
	if err := r.gone(ctx, id); err != nil {
		return err
	}
	return os.RemoveAll(r.dir(id))
}

// gone waits for the end of a shim.
func (r *Runner) gone(ctx context.Context, id string) error {
	for {
		up, err := r.alive(id)
		if err != nil || !up {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end %s: its shim lives on: %w", id, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
