package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Chroot is a System that mounts a slot's root image, read-only as it will be in the
// field, and starts one of its services.
type Chroot struct {
	Dir     string            // where the running slot is mounted
	Roots   map[string]string // device of each slot's root image, by the slot's name
	Type    string            // file system of the image
	Scratch []string          // directories of the image that are memory, and empty at each boot
	Files   map[string]string // what the host puts into them: path to content
	Service []string          // command, by its path in the image; it stays in the foreground
	Log     *os.File          // output of the service
}

// Start implements System. A service that does not come up is the slot's fault, not the
// machine's: the agent's probes are there to see it.
func (c *Chroot) Start(ctx context.Context, slot string) (stop func() error, err error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("mount point: %w", err)
	}
	if err := unix.Mount(c.Roots[slot], c.Dir, c.Type, unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return nil, fmt.Errorf("mount slot %s: %w", slot, err)
	}
	if err := c.furnish(); err != nil {
		return nil, errors.Join(err, c.unmount())
	}
	if len(c.Service) == 0 {
		return c.unmount, nil
	}
	service, err := start(c.Service, c.Log, c.Dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("service of slot %s: %w", slot, err), c.unmount())
	}
	return func() error {
		service.kill()
		return c.unmount()
	}, nil
}

// furnish puts memory over the image's scratch directories, and the host's files in.
func (c *Chroot) furnish() error {
	for _, d := range c.Scratch {
		if err := unix.Mount("tmpfs", filepath.Join(c.Dir, d), "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=755"); err != nil {
			return fmt.Errorf("mount memory at %s: %w", d, err)
		}
	}
	for name, content := range c.Files {
		p := filepath.Join(c.Dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return fmt.Errorf("file of the host: %w", err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			return fmt.Errorf("file of the host: %w", err)
		}
	}
	return nil
}

// unmount takes down all that is mounted at or below Dir, last mounted first.
func (c *Chroot) unmount() error {
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	var errs []error
	lines := bytes.Split(table, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		// proc(5): the fifth field is the mount point.
		f := strings.Fields(string(lines[i]))
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			errs = append(errs, unix.Unmount(f[4], unix.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
