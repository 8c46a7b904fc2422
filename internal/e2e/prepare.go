package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/release"
)

// systems are all releases, the factory's first.
var systems = []system{
	{"1.0", "good"}, {"2.0", "good"}, {"2.1", "panic"}, {"2.2", "unhealthy"}, {"2.3", "hang"},
	{"2.4", "noagent"}, {"2.5", "nokernel"}, {"2.6", "badconfig"}, {"2.7", "stuck"}, {"2.8", "newformat"}, {"2.9", "hog"}, {"2.10", "standstill"}, {"2.11", "badapp"},
}

// prepare publishes the releases that are needed, by the loader that they are for, and
// makes the disks that cases begin with.
func (e *engine) prepare(needs map[string]map[string]bool) error {
	var trust []byte
	var err error
	if e.site, trust, err = newSite(e.kit, "site"); err != nil {
		return err
	}
	for _, l := range bases {
		if needs[l.id()] == nil {
			continue
		}
		if l.variant == hasApps.variant {
			if err := e.site.publishApps(); err != nil {
				return err
			}
		}
		if err := e.publish(l, trust, needs[l.id()]); err != nil {
			return err
		}
	}
	if err := e.site.serve(); err != nil {
		return err
	}
	var jobs []func() error
	for _, l := range bases {
		if needs[l.id()] != nil {
			jobs = append(jobs, func() error { return e.adopt(l) })
		}
	}
	if err := together(jobs); err != nil {
		return fmt.Errorf("first boot: %w", err)
	}
	if !e.wants("write log", grubBIOS) {
		return nil
	}
	if err := e.record(grubBIOS); err != nil {
		return fmt.Errorf("record an update: %w", err)
	}
	return nil
}

// together does jobs at the same time. The error is that of all that failed.
func together(jobs []func() error) error {
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, job := range jobs {
		wg.Go(func() { errs[i] = job() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// publish publishes the releases for one loader and makes the factory's disk.
func (e *engine) publish(l loader, trust []byte, versions map[string]bool) error {
	var factory release.Manifest
	var signed []byte
	for _, s := range systems {
		if s.version != "1.0" && !versions[s.version] {
			continue
		}
		root, err := e.kit.rootImage(s, l, trust)
		if err != nil {
			return err
		}
		boot, err := e.kit.bootImage(s, l)
		if err != nil {
			return err
		}
		from := "1.0"
		if s.version == from {
			from = ""
		}
		if err := e.site.publish(l, s.version, root, boot, from); err != nil {
			return err
		}
		m, raw, err := e.site.manifest(l, s.version)
		if err != nil {
			return err
		}
		for _, i := range m.Images {
			if err := withTree(e.kit.content(l, s.version, i.Name), map[string]string{"root": root, "boot": boot}[i.Name], i.Salt); err != nil {
				return err
			}
		}
		if from == "" {
			factory, signed = m, raw
		}
	}
	var err error
	name := "factory-" + l.id() + ".img"
	switch {
	case l.variant == largeSectors.variant:
		e.disks[l.id()], err = e.kit.largeFactory(name, l, factory, signed)
	case l.name == systemdBoot.name:
		e.disks[l.id()], err = e.kit.sdFactory(name, factory, signed, filepath.Join(e.work, l.id()+"-boot-1.0.img"))
	default:
		e.disks[l.id()], err = e.kit.factory(name, l, factory, signed)
	}
	return err
}

// adopt boots the factory's disk once, so that the agent adopts what it runs, and the
// first update can be a delta. All cases begin with that disk.
func (e *engine) adopt(l loader) error {
	h, err := e.newHost("adopt-"+l.id(), l)
	if err != nil {
		return err
	}
	defer h.off()
	u, err := h.boot(3)
	if err != nil {
		return err
	}
	if u["slot"] != "a" || u["data"] != "writable" {
		return fmt.Errorf("got %v", u)
	}
	for _, word := range []string{"VM ran 0", "msg=started"} {
		if _, err := h.see(word); err != nil {
			return err
		}
	}
	if l.variant == hasApps.variant {
		if err := h.installApp(); err != nil {
			return err
		}
	} else if err := h.shutDown(); err != nil {
		return err
	}
	kept, err := h.keptBoots()
	if err != nil || kept != 1 {
		return fmt.Errorf("got %d boots that were written down, want 1, %w", kept, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.factory[l.id()], e.disks[l.id()], e.keptBefore = e.disks[l.id()], h.c.Disk, kept
	return nil
}

// shutDown has the machine turn itself off.
func (h *host) shutDown() error {
	if err := h.m.Say("off"); err != nil {
		return err
	}
	if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
		return err
	}
	return nil
}
