package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
)

// Listen makes the daemon's socket at path, and the directory for it. A socket that a
// dead daemon left behind is replaced; a live one is a Refusal with code busy.
func Listen(path string, g Guard) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case st.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("control socket %s: something else is there (%s)", path, st.Mode())
	default:
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, &agent.Refusal{Reason: agent.Reason{Code: agent.CodeBusy, Text: "another daemon answers at " + path}}
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	// Nobody else may connect before the group is set.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if g.HasGroup {
		if err := os.Chown(path, -1, int(g.Group)); err != nil {
			l.Close()
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}
