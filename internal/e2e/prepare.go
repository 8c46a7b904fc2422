package main

import (
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// systems are all releases, the factory's first.
var systems = []system{
	{"1.0", "good"}, {"2.0", "good"}, {"2.1", "panic"}, {"2.2", "unhealthy"}, {"2.3", "hang"},
	{"2.4", "noagent"}, {"2.5", "nokernel"}, {"2.6", "badconfig"}, {"2.7", "stuck"},
}

// prepare publishes the releases that are needed, by the loader that they are for, and
// makes the disks that cases begin with.
func (e *engine) prepare(needs map[string]map[string]bool) error {
	var trust []byte
	var err error
	if e.site, trust, err = newSite(e.kit, "site"); err != nil {
		return err
	}
	for _, l := range []loader{grubBIOS, systemdBoot} {
		if needs[l.name] == nil {
			continue
		}
		if err := e.publish(l, trust, needs[l.name]); err != nil {
			return err
		}
	}
	if err := e.site.serve(); err != nil {
		return err
	}
	for _, l := range []loader{grubBIOS, systemdBoot} {
		if needs[l.name] == nil {
			continue
		}
		if err := e.adopt(l); err != nil {
			return fmt.Errorf("first boot by %s: %w", l.name, err)
		}
	}
	return e.prepareCuts()
}

// publish publishes the releases for one loader and makes the factory's disk.
func (e *engine) publish(l loader, trust []byte, versions map[string]bool) error {
	boot, noKernel, err := e.bootImages(l)
	if err != nil {
		return err
	}
	var factory string
	for _, s := range systems {
		if s.version != "1.0" && !versions[s.version] {
			continue
		}
		root, err := e.kit.rootImage(s, l, trust)
		if err != nil {
			return err
		}
		from, with := "1.0", boot
		if s.version == "1.0" {
			from, factory = "", root
		}
		if s.behaviour == "nokernel" {
			with = noKernel
		}
		if err := e.site.publish(l, s.version, root, with, from); err != nil {
			return err
		}
	}
	m, raw, err := e.site.manifest(l, "1.0")
	if err != nil {
		return err
	}
	make := e.kit.factory
	if l.name == systemdBoot.name {
		make = e.kit.sdFactory
	}
	e.disks[l.name], err = make("factory-"+l.name+".img", m, raw, factory, boot)
	return err
}

// bootImages makes the boot image of all releases for a loader, and, for GRUB, one
// without a kernel.
func (e *engine) bootImages(l loader) (boot, noKernel string, err error) {
	if l.name == systemdBoot.name {
		boot, err = e.kit.ukiImage("uki.img")
		return boot, "", err
	}
	if boot, err = e.kit.bootImage("boot.img", true); err != nil {
		return "", "", err
	}
	noKernel, err = e.kit.bootImage("nokernel.img", false)
	return boot, noKernel, err
}

// adopt boots the factory's disk once, so that the agent adopts what it runs, and the
// first update can be a delta. All cases begin with that disk.
func (e *engine) adopt(l loader) error {
	h, err := e.newHost("adopt-"+l.name, l)
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
	e.disks[l.name] = h.c.Disk
	return h.shutDown()
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

// prepareCuts makes what power cuts begin with: machines that are about to boot a trial,
// and the writes of a whole update.
func (e *engine) prepareCuts() error {
	if e.wants("power cut") {
		for _, v := range []string{"2.0", "2.2"} {
			h, err := e.newHost("armed-"+v, grubBIOS)
			if err != nil {
				return err
			}
			err = h.updated(v)
			h.off()
			if err != nil {
				return fmt.Errorf("arm %s: %w", v, err)
			}
			e.armed[v] = h.c.Disk
		}
	}
	if e.wants("write log") {
		if err := e.record(); err != nil {
			return fmt.Errorf("record an update: %w", err)
		}
	}
	return nil
}
