package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/vm"
)

// flipped damages what will run, after it was read back and before it starts.
func flipped(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	if err := h.flip(rootAt+rootSize*mib, "up slot=%s release=%s"); err != nil {
		return err
	}
	return h.ends("a", "1.0", 8)
}

// flippedBoot damages the first program of the trial's initramfs.
func flippedBoot(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	err := h.edit(bootAt+bootSize*mib, bootSize*mib, func(b []byte) error {
		i := bytes.Index(b, []byte("\x7fELF"))
		if i < 0 {
			return errors.New("no program is there")
		}
		b[i] ^= 1
		return nil
	})
	if err != nil {
		return err
	}
	return h.ends("a", "1.0", 8)
}

// flippedLater damages a slot that was committed: the machine leaves it.
func flippedLater(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	if err := h.ends("b", "2.0", 4); err != nil {
		return err
	}
	h.off()
	if err := h.flip(rootAt+rootSize*mib, "up slot=%s release=%s"); err != nil {
		return err
	}
	return h.ends("a", "1.0", 8)
}

// flip changes one byte of a partition: in the page that holds a text, which is of the
// program that runs first.
func (h *host) flip(partition int64, text string) error {
	return h.edit(partition, rootSize*mib, func(b []byte) error {
		i := strings.LastIndex(string(b), text)
		if i < 0 {
			return errors.New("the text is not there")
		}
		b[i] ^= 1
		return nil
	})
}

// wrongHash makes the boot record describe something else than what the slot holds.
func wrongHash(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	err := h.edit(bootEnvAt, mib, func(b []byte) error {
		const name = "twinkeel_roothash="
		changed := 0
		for i := 0; ; changed++ {
			j := strings.Index(string(b[i:]), name)
			if j < 0 {
				break
			}
			i += j + len(name)
			if !strings.Contains(string(b[max(0, i-200):i]), "twinkeel_describes=b") {
				continue
			}
			if b[i] == '0' {
				b[i] = '1'
			} else {
				b[i] = '0'
			}
		}
		if changed == 0 {
			return errors.New("no description is there")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return h.ends("a", "1.0", 8)
}

// noDataInTrial takes the data partition away while the new release is on trial.
func noDataInTrial(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	kept, err := h.swap(dataAt, dataSize*mib, nil)
	if err != nil {
		return err
	}
	u, err := h.boot(2)
	if err != nil {
		return err
	}
	if u["slot"] != "b" || u["data"] != "none" {
		return fmt.Errorf("the trial without its data partition: got %v", u)
	}
	if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
		return fmt.Errorf("the trial goes on: %w", err)
	}
	if u, err = h.boot(4); err != nil || u["slot"] != "a" {
		return fmt.Errorf("after the trial: got %v, %w", u, err)
	}
	h.off()
	if _, err := h.swap(dataAt, dataSize*mib, kept); err != nil {
		return err
	}
	return h.ends("a", "1.0", 3)
}

// noData takes the data partition away from a machine that stands: it runs on.
func noData(_ *engine, h *host, _ *rand.Rand) error {
	kept, err := h.swap(dataAt, dataSize*mib, nil)
	if err != nil {
		return err
	}
	if err := h.start(); err != nil {
		return err
	}
	s, err := h.status()
	if err != nil || s.Running != "a" || !hasReason(s, "state") {
		return fmt.Errorf("without its data partition: got %+v, %w", s, err)
	}
	if err := h.refused(agent.CodeState, "update", "--now"); err != nil {
		return fmt.Errorf("without its data partition: %w", err)
	}
	h.off()
	if _, err := h.swap(dataAt, dataSize*mib, kept); err != nil {
		return err
	}
	return h.ends("a", "1.0", 2)
}

// readOnlyData makes the data partition one that can only be read while the new release is
// on trial, and leaves it so when the old one runs again.
func readOnlyData(e *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	if err := e.setReadOnly(h, "read-only"); err != nil {
		return err
	}
	u, err := h.boot(2)
	if err != nil {
		return err
	}
	if u["slot"] != "b" || u["data"] != "read-only" {
		return fmt.Errorf("the trial: got %v", u)
	}
	if _, err := h.see("no such line"); !errors.Is(err, vm.ErrEnded) {
		return fmt.Errorf("the trial goes on: %w", err)
	}
	if err := h.start(); err != nil {
		return err
	}
	s, err := h.status()
	if err != nil || s.Running != "a" || !hasReason(s, "state") {
		return fmt.Errorf("after the trial: got %+v, %w", s, err)
	}
	h.off()
	if err := e.setReadOnly(h, "^read-only"); err != nil {
		return err
	}
	return h.ends("a", "1.0", 3)
}

// setReadOnly sets or clears ext4's mark of a file system that can only be read.
func (e *engine) setReadOnly(h *host, feature string) error {
	image := filepath.Join(h.dir, "data.img")
	b, err := h.part(dataAt, dataSize*mib)
	if err != nil {
		return err
	}
	if err := os.WriteFile(image, b, 0o644); err != nil {
		return err
	}
	if feature == "read-only" {
		// The journal is not empty; 1 says that it was replayed.
		if err := e.kit.tool("e2fsck", "-f", "-p", image); err != nil && !strings.Contains(err.Error(), "exit status 1") {
			return err
		}
	}
	if err := e.kit.tool("tune2fs", "-O", feature, image); err != nil {
		return err
	}
	if b, err = os.ReadFile(image); err != nil {
		return err
	}
	_, err = h.swap(dataAt, dataSize*mib, b)
	return err
}
