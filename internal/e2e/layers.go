package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// ext4Root is a machine whose roots are ext4, without a journal, as an image of it is read-only.
var ext4Root = loader{name: "grub", path: "/boot/twinkeel", title: "GRUB on BIOS", variant: "ext4-root"}

// ext4Size is the size of such an image, in MiB: its hash tree has to fit behind it.
const ext4Size = rootSize - 2

// ext4Image makes a root of a tree, the same for the same tree. The kernel takes no blocks that
// are smaller than verity's.
func (k *kit) ext4Image(image, tree string) error {
	const id = "00000000-0000-0000-0000-000000000001"
	return k.tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-U", id, "-E", "hash_seed="+id+",root_owner=0:0",
		"-d", tree, image, fmt.Sprintf("%dM", ext4Size))
}

// Files of /etc: one of the machine's own, and one that is its identity.
const (
	ownFile      = "/etc/motd"
	identityFile = "/etc/hostname"
)

// layered tells what becomes of changes under /etc: those of a trial that was left are gone,
// those of the release that stood go along, and identity is the same in both slots.
func layered(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	if err := h.change("one"); err != nil {
		return err
	}
	if err := h.update("2.2"); err != nil {
		return err
	}
	if _, err := h.boot(1); err != nil {
		return err
	}
	if err := h.change("of a bad trial"); err != nil {
		return err
	}
	if err := h.ends("a", "1.0", 4); err != nil {
		return err
	}
	if err := h.etc("one", "one"); err != nil {
		return fmt.Errorf("after a trial that was left: %w", err)
	}
	if err := h.explained(); err != nil {
		return err
	}
	if err := h.update("2.0"); err != nil {
		return err
	}
	if err := h.ends("b", "2.0", 4); err != nil {
		return err
	}
	if err := h.etc("one", "one"); err != nil {
		return fmt.Errorf("after the update: %w", err)
	}
	if err := h.change("two"); err != nil {
		return err
	}
	if err := h.shutDown(); err != nil {
		return err
	}
	if err := h.ends("b", "2.0", 1); err != nil {
		return err
	}
	if err := h.etc("two", "two"); err != nil {
		return fmt.Errorf("in the next boot: %w", err)
	}
	if err := h.examined("b"); err != nil {
		return err
	}
	if err := h.goesBack(); err != nil {
		return err
	}
	if err := h.etc("two", "two"); err != nil {
		return fmt.Errorf("after the way back: %w", err)
	}
	return h.examined("a")
}

// change writes a word into both files.
func (h *host) change(word string) error {
	for _, path := range []string{ownFile, identityFile} {
		if err := h.m.Say("put " + path + " " + word); err != nil {
			return err
		}
		if line, err := h.see("VM put"); err != nil || line != "VM put" {
			return fmt.Errorf("write %s: %s, %w", path, line, err)
		}
	}
	return nil
}

// etc checks what is in the files.
func (h *host) etc(own, identity string) error {
	for path, want := range map[string]string{ownFile: own, identityFile: identity} {
		if err := h.m.Say("show " + path); err != nil {
			return err
		}
		line, err := h.see("OUT "+path+" ", "VM ran ")
		if err != nil || line != "OUT "+path+" "+want {
			return fmt.Errorf("%s: got %q, want %q, %w", path, line, want, err)
		}
		if _, err := h.see("VM ran "); err != nil {
			return err
		}
	}
	return nil
}

// examined checks what doctor says of the boot loader, and that nothing is an error to it.
func (h *host) examined(slot string) error {
	out, err := h.operator(0, "doctor")
	if err != nil {
		return err
	}
	for _, want := range []string{
		"boot loader: " + h.l.name + ": configured: " + h.l.path, "boot loader: slot " + slot + " runs and is committed; slot " + slot + " boots next",
		"rollback: `twinkeel rollback` goes to ",
	} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("doctor: got %s, want %q", out, want)
		}
	}
	return nil
}
