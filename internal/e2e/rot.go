package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/vm"
)

// rot flips a byte of a file in the root of a machine that is up, on the disk, where nothing has
// read it yet, and has the machine read it.
func (h *host) rot(slot string) error {
	p, err := h.partition("root-" + slot)
	if err != nil {
		return err
	}
	root, err := h.part(p.Start, p.Size)
	if err != nil {
		return err
	}
	i := bytes.Index(root, noise(idleSeed, idleSize))
	if i < 0 {
		return fmt.Errorf("slot %s: has no %s in one piece", slot, idle)
	}
	i += idleSize / 2
	disk, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// One byte: the machine writes to other parts of the disk meanwhile.
	_, err = disk.WriteAt([]byte{root[i] ^ 1}, p.Start+int64(i))
	if err := errors.Join(err, disk.Close()); err != nil {
		return err
	}
	if err := h.m.Say("read " + idle); err != nil {
		return err
	}
	line, err := h.see("VM read ")
	if err == nil && !strings.Contains(line, "input/output error") {
		err = fmt.Errorf("a damaged file was read: %s", line)
	}
	return err
}

// rotsAlone tells of a root that goes bad while there is nothing else to start: what cannot be
// read is an error, the machine stays up and says so, and what it does first is to fill the
// other slot.
func rotsAlone(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	// Otherwise the agent would fill the other slot by itself before this one was looked at; the
	// end of the hold makes it poll.
	if _, err := h.operator(0, "hold", "--reason", "test"); err != nil {
		return err
	}
	if err := h.rot("a"); err != nil {
		return err
	}
	if err := h.reports(); err != nil {
		return err
	}
	_, out, err := h.run("/usr/bin/twinkeel", "doctor")
	if err != nil || !strings.Contains(out, "not what was signed") {
		return fmt.Errorf("doctor: got %s, %w, want the damage", out, err)
	}
	if h.m == nil || h.boots != 1 {
		return fmt.Errorf("the machine did not stay up: %d boots", h.boots)
	}
	if _, err := h.operator(0, "unhold"); err != nil {
		return err
	}
	if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
		return fmt.Errorf("the other slot is not filled and tried: %w", err)
	}
	return h.ends("b", "1.0", 4)
}

// reports waits until status tells of a damaged slot.
func (h *host) reports() error {
	for range 60 {
		s, err := h.status()
		if errors.Is(err, vm.ErrEnded) {
			return err
		}
		if err == nil && hasReason(s, agent.CodeSlot) {
			return nil
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("status does not tell of the damage")
}

// rotsBeside tells of a root that goes bad while the slot of before can still be started: the
// machine goes there by itself, and from there the release can be installed once more.
func rotsBeside(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	if err := h.ends("b", "2.0", 4); err != nil {
		return err
	}
	if err := h.rot("b"); err != nil {
		return err
	}
	if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
		return fmt.Errorf("a damaged slot goes on: %w", err)
	}
	if told, err := h.said("the root of slot b is damaged"); err != nil || !told {
		return fmt.Errorf("it did not end for the damage, %w", err)
	}
	if err := h.ends("a", "1.0", 2); err != nil {
		return err
	}
	if err := h.update("2.0"); err != nil {
		return err
	}
	return h.ends("b", "2.0", 4)
}
