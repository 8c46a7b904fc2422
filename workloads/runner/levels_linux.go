package runner

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/spec"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

// runtime finds the runtime of a level, anew each time: it may be installed or go away.
func (r *Runner) runtime(ctx context.Context, level string) (oci.Runtime, error) {
	var found oci.Runtime
	var err error
	switch level {
	case "container", "vm": // whose emulator runs in a container of its own
		found, err = r.finder.Find(ctx, []oci.Kind{oci.Crun, oci.Runc}, r.Runtime, r.runtimeState())
	case "sandbox":
		found, err = r.finder.Find(ctx, []oci.Kind{oci.Runsc}, r.Sandbox, r.runtimeState())
	default:
		err = fmt.Errorf("it has no runtime here")
	}
	if err != nil {
		return found, fmt.Errorf("isolation: %w: level %s, which is never lowered: %w", workloads.ErrMissing, level, err)
	}
	return found, nil
}

// machine finds what level vm needs; nil for another level.
func (r *Runner) machine(i release.AppIsolation) (*vm.Host, error) {
	if i.Level != "vm" {
		return nil, nil
	}
	h, err := vm.Find(r.Machines, i.Kernel != "")
	if err != nil {
		return nil, fmt.Errorf("isolation: %w: level vm, which is never lowered: %w", workloads.ErrMissing, err)
	}
	return &h, nil
}

// Ready reports why this host cannot run what a manifest describes, and what is known
// against the runtime that would. It starts nothing, and looks anew each time.
func (r *Runner) Ready(ctx context.Context, m *release.AppManifest) (notes []string, err error) {
	if err := spec.Suits(m); err != nil {
		return nil, fmt.Errorf("isolation: %w", err)
	}
	if _, err := exec.LookPath(r.Shim[0]); err != nil {
		return nil, fmt.Errorf("isolation: %w: the shim: %w", workloads.ErrMissing, err)
	}
	found, err := r.runtime(ctx, m.Isolation.Level)
	if err != nil {
		return nil, err
	}
	_, err = r.machine(m.Isolation)
	return found.Warnings(), err
}

// Doctor says what an operator should know of this host's isolation.
func (r *Runner) Doctor(ctx context.Context) []string {
	found, err := r.runtime(ctx, "container")
	if err != nil {
		return []string{err.Error() + "; install crun, or runc 1.2.8 or newer"}
	}
	said := found.Warnings()
	if found, err := r.runtime(ctx, "sandbox"); err != nil {
		said = append(said, err.Error()+"; applications that want it are refused; install gVisor's runsc")
	} else {
		said = append(said, found.Warnings()...)
	}
	host, err := r.machine(release.AppIsolation{Level: "vm"})
	switch {
	case err != nil:
		said = append(said, err.Error()+"; applications that want it are refused")
	case !host.KVM:
		said = append(said, "isolation level vm: without KVM here its processor is emulated: applications start and run many times slower")
	}
	return said
}
