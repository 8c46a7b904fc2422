package runner

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/shim"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// Free reports what a manifest needs of this host as it is now and would not get: devices
// and directories that are not there, ports and listening sockets that others have, an
// address. What its own unit and those called leaving have is free by then. It starts
// nothing, and looks anew each time.
func (r *Runner) Free(_ context.Context, m *release.AppManifest, leaving []string) error {
	b, err := readBook(r.Run)
	if err != nil {
		return err
	}
	stay := b.without(append(slices.Clone(leaving), m.Name))
	if err := present(m.Permissions); err != nil {
		return err
	}
	if err := spec.Permits(m, m.Permissions, devices(m.Permissions)); err != nil {
		return err
	}
	if err := r.clashes(stay, m); err != nil {
		return err
	}
	if m.Network.Mode == "private" {
		if _, err := r.link(stay); err != nil {
			return err
		}
	}
	return r.vacant(b, m, leaving)
}

// without is the book as it will be when units are gone.
func (b *book) without(names []string) *book {
	stay := &book{Next: b.Next, Units: map[string]roles{}}
	for name, entry := range b.Units {
		if !slices.Contains(names, name) {
			stay.Units[name] = entry
		}
	}
	return stay
}

// present refuses devices and directories that are not there.
func present(permissions []release.AppPermission) error {
	for _, p := range permissions {
		if p.Name != "device" && p.Name != "host-path" {
			continue
		}
		path, _, _ := strings.Cut(p.Value, ":")
		if _, err := os.Lstat(path); err != nil {
			return fmt.Errorf("permission %s: %w: %w", p.Name, workloads.ErrMissing, err)
		}
	}
	return nil
}

// clashes refuses what another unit has.
func (r *Runner) clashes(b *book, m *release.AppManifest) error {
	for name, entry := range b.Units {
		if name == m.Name || entry.Unit == "" {
			continue
		}
		o, err := shim.ReadOrder(r.dir(entry.Unit))
		if err != nil {
			continue // it does not run, and has nothing
		}
		if err := m.Clash(o.Unit.Manifest); err != nil {
			return fmt.Errorf("%w: %w", workloads.ErrMissing, err)
		}
	}
	return nil
}

// vacant refuses addresses to listen at that somebody on the host has, or that the host
// does not have. A unit that will be gone may have any of them now, if it listens in the
// host's own network.
func (r *Runner) vacant(b *book, m *release.AppManifest, leaving []string) error {
	var own []release.AppSocket
	for _, name := range append(slices.Clone(leaving), m.Name) {
		o, err := shim.ReadOrder(r.dir(b.Units[name].Unit))
		if err != nil {
			continue
		}
		n := o.Unit.Manifest.Network
		if n.Mode == "host" {
			return nil
		}
		own = append(own, n.Sockets...)
	}
	var strange []release.AppSocket
	for _, s := range m.Network.Sockets {
		if !slices.ContainsFunc(own, s.Overlaps) {
			strange = append(strange, s)
		}
	}
	files, err := r.listeners(strange, false)
	closeAll(files)
	return err
}
