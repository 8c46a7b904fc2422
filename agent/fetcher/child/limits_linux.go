package child

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// takeLimits reads the first frame of a control connection and obeys it.
func takeLimits(control *net.UnixConn) error {
	h, err := wire.ReadHeader(control)
	if err != nil {
		return err
	}
	if h.Kind != wire.KindLimits {
		return fmt.Errorf("control socket: got frame %c first, want the limits", h.Kind)
	}
	b := make([]byte, h.Length)
	if _, err := io.ReadFull(control, b); err != nil {
		return err
	}
	var l wire.Limits
	if err := wire.Decode(b, &l); err != nil {
		return fmt.Errorf("control socket: limits: %w", err)
	}
	return setLimits(l)
}

// setLimits bounds what this process may use. The address space itself is no measure
// for a Go program, which reserves far more than it touches; RLIMIT_DATA counts what
// it can write to. It can write to no file at all.
func setLimits(l wire.Limits) error {
	for _, set := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"memory", unix.RLIMIT_DATA, l.Memory},
		{"descriptors", unix.RLIMIT_NOFILE, l.Files},
		{"tasks", unix.RLIMIT_NPROC, l.Tasks},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"core size", unix.RLIMIT_CORE, 0},
	} {
		if set.resource == unix.RLIMIT_NPROC && set.value == 0 {
			continue
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(set.resource, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", set.name, err)
		}
		value := min(set.value, now.Max)
		if err := unix.Setrlimit(set.resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("limit of %s: %w", set.name, err)
		}
	}
	return nil
}
