package runner

import (
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/oci"
)

// runtime finds the runtime of a level, anew each time: it may be installed or go away.
func (r *Runner) runtime(ctx context.Context, level string) (oci.Runtime, error) {
	var found oci.Runtime
	var err error
	switch level {
	case "container":
		found, err = oci.Find(ctx, []oci.Kind{oci.Crun, oci.Runc}, r.Runtime, r.runtimeState())
	case "sandbox":
		found, err = oci.Find(ctx, []oci.Kind{oci.Runsc}, r.Sandbox, r.runtimeState())
	default:
		err = fmt.Errorf("it has no runtime here")
	}
	if err != nil {
		return found, fmt.Errorf("isolation: %w: level %s, which is never lowered: %w", workloads.ErrMissing, level, err)
	}
	return found, nil
}

// Doctor says what an operator should know of this host's isolation.
func (r *Runner) Doctor(ctx context.Context) []string {
	found, err := r.runtime(ctx, "container")
	if err != nil {
		return []string{err.Error() + "; install crun, or runc 1.2.8 or newer"}
	}
	said := found.Warnings()
	if _, err := r.runtime(ctx, "sandbox"); err != nil {
		said = append(said, err.Error()+"; applications that want it are refused; install gVisor's runsc")
	}
	return append(said, "isolation level vm: not on this host; applications that want it are refused")
}
