package main

import (
	"fmt"
	"path/filepath"
)

// systems are all releases.
var systems = []system{
	{"1.0", "good"}, {"2.0", "good"}, {"2.1", "panic"}, {"2.2", "unhealthy"}, {"2.3", "hang"},
	{"2.4", "noagent"}, {"2.5", "nokernel"}, {"2.6", "badconfig"}, {"2.7", "stuck"}, {"2.8", "good"},
}

// prepare publishes the releases that are needed and makes the disk that cases begin with.
func (e *engine) prepare(versions map[string]bool) error {
	var trust []byte
	var err error
	if e.site, trust, err = newSite(e.kit, "site"); err != nil {
		return err
	}
	boot, err := e.kit.bootImage("boot.img", true)
	if err != nil {
		return err
	}
	noKernel, err := e.kit.bootImage("nokernel.img", false)
	if err != nil {
		return err
	}
	var factory string
	for _, s := range systems {
		if s.version != "1.0" && !versions[s.version] {
			continue
		}
		root, err := e.kit.rootImage(s, grubBIOS, trust)
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
		if err := e.site.publish(s.version, root, with, from); err != nil {
			return err
		}
	}
	m, raw, err := e.site.manifest("1.0")
	if err != nil {
		return err
	}
	if e.disk, err = e.kit.factory("factory.img", m, raw, factory, boot); err != nil {
		return err
	}
	if err := e.site.serve(); err != nil {
		return err
	}
	if err := e.adopt(); err != nil || e.cuts == 0 {
		return err
	}
	for _, v := range []string{"2.0", "2.2"} {
		if versions[v] {
			if err := e.arm(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// arm makes the disk of a machine that is about to boot a trial.
func (e *engine) arm(version string) error {
	h, err := e.newHost("armed-"+version, e.disk, grubBIOS)
	if err != nil {
		return err
	}
	defer h.off()
	if err := h.updated(version); err != nil {
		return fmt.Errorf("arm %s: %w", version, err)
	}
	e.armed[version] = h.c.Disk
	return nil
}

// adopt has the agent of slot a adopt it, once for all cases: so its state directory
// knows what it runs, and the first update can be a delta.
func (e *engine) adopt() error {
	h, err := e.newHost("adopt", e.disk, grubBIOS)
	if err != nil {
		return err
	}
	defer h.off()
	u, err := h.boot(3)
	if err != nil {
		return err
	}
	if u["slot"] != "a" || u["data"] != "writable" {
		return fmt.Errorf("factory: got %v", u)
	}
	for _, word := range []string{"VM ran 0", "msg=started"} {
		if _, err := h.see(word); err != nil {
			return err
		}
	}
	if err := h.m.Say("off"); err != nil {
		return err
	}
	if _, err := h.see("no such line"); h.m != nil {
		return err
	}
	e.disk = filepath.Join(h.dir, "disk.img")
	return nil
}
