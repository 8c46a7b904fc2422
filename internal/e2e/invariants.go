package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
)

// watched is what is known of a machine whose boot record is looked at whenever it is off.
type watched struct {
	was  bootloader.State
	seen bool
	arms int // how often the agent had armed a slot by then
	done int // how often it had marked one as armed when a verdict was last known
}

// maxArms is how often a release is tried without a verdict: once, and three times again.
const maxArms = 4

// counted checks the boot record of a machine that is off: no slot has more tries than it
// had, unless the agent armed one since, and it did so a few times only.
func (h *host) counted() error {
	s, err := h.record()
	if err != nil {
		return err
	}
	log, err := os.ReadFile(h.c.Log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	w := h.watched
	arms := strings.Count(string(log), "step=arm ")
	if w.seen && arms == w.arms {
		for _, slot := range partitions.Slots {
			if was, is := w.was.Slots[slot], s.Slots[slot]; !is.Successful && is.Tries > was.Tries {
				return fmt.Errorf("boot record: slot %s has %d tries, had %d, and nobody armed it", slot, is.Tries, was.Tries)
			}
		}
	}
	if marks := marked(log) - w.done; marks > maxArms {
		return fmt.Errorf("armed %d times without a verdict, want at most %d", marks, maxArms)
	}
	h.watched = &watched{s, true, arms, w.done}
	return nil
}

// marked is how often a slot was marked as armed, by the console's log.
func marked(log []byte) int { return strings.Count(string(log), `step="mark armed"`) }

// concluded says that the machine has come to its end: what it arms from now on is something new.
func (h *host) concluded() error {
	log, err := os.ReadFile(h.c.Log)
	h.watched.done = marked(log)
	return err
}

// record reads the boot record of a machine that is off, with tools that are neither the
// loader's nor the machine's.
func (h *host) record() (bootloader.State, error) {
	dir := filepath.Join(h.dir, "record")
	if h.l.name != systemdBoot.name {
		p, err := h.partition("bootenv")
		if err != nil {
			return bootloader.State{}, err
		}
		return vm.GRUBRecord(h.ctx, h.c.Disk, p.Start, dir)
	}
	// A kernel that is being put in its place may have no cluster yet, and is not copied then.
	err := vm.CopyFiles(h.ctx, h.c.Disk, mib, dir, "::/loader", "::/twinkeel")
	l, openErr := sdboot.Open(dir, nil, running.Kernel{})
	if openErr != nil {
		return bootloader.State{}, errors.Join(openErr, err)
	}
	return l.Load(h.ctx)
}

// known boots a machine after a cut: within three boots, a release runs that is the old
// one or the new one, and nothing but that, with the machine's identity and its data.
func (e *engine) known(h *host) (up, error) {
	u, err := h.boot(3)
	if err != nil {
		return nil, err
	}
	return u, isKnown(h, u)
}

func isKnown(h *host, u up) error {
	if got := u["slot"] + u["release"]; got != "a1.0" && got != "b2.0" && got != "b2.2" || u["data"] != "writable" || u["id"] != machineID {
		return fmt.Errorf("after the cut: got %v", u)
	}
	return h.holds(u["slot"], u["release"])
}

// survived checks that the machine ends on the new release after all cuts, with or
// without doing the update again.
func (e *engine) survived(h *host) error {
	s, err := h.rests(8, func(u up) error { return isKnown(h, u) })
	if err != nil {
		return err
	}
	if s.Running != "b" {
		if err := h.update("2.0"); err != nil {
			return err
		}
		if err := h.ends("b", "2.0", 6); err != nil {
			return err
		}
	}
	return e.sound(h, "b", "2.0")
}

// reverted checks that the machine ends on the old release, and does not try the new one
// again.
func (e *engine) reverted(h *host) error {
	s, err := h.rests(8, func(u up) error { return isKnown(h, u) })
	if err != nil {
		return err
	}
	if s.Running != "a" || s.Next != "a" {
		return fmt.Errorf("comes to rest on slot %s, next %s, want a", s.Running, s.Next)
	}
	if err := h.refused(agent.CodeDenied, "update", "2.2", "--now"); err != nil {
		return fmt.Errorf("a release with a verdict is tried again: %w", err)
	}
	if err := e.sound(h, "a", "1.0"); err != nil {
		return err
	}
	if b := h.watched.was.Slots[partitions.B]; b.Bootable() {
		return fmt.Errorf("slot b was left with a verdict and can boot: %+v", b)
	}
	return nil
}

// adopted checks that a machine that lost its power in its first boots knows what it runs: the
// update is a delta from that.
func (e *engine) adopted(h *host) error {
	if err := e.survived(h); err != nil {
		return err
	}
	if delta, err := h.said("image=root route=delta"); err != nil || !delta {
		return fmt.Errorf("after cuts in the adoption the update was not by delta, %w", err)
	}
	return nil
}

// wentBack checks that the machine ends on the old release after all cuts, with or without
// being told to go back again.
func (e *engine) wentBack(h *host) error {
	s, err := h.rests(8, func(u up) error { return isKnown(h, u) })
	if err != nil {
		return err
	}
	if s.Running != "a" {
		if out, err := h.operator(0, "rollback", "--reason", "test"); err != nil || h.m != nil {
			return fmt.Errorf("rollback, done again: the machine did not go down: %s, %w", out, err)
		}
		if err := h.ends("a", "1.0", 6); err != nil {
			return err
		}
	}
	return e.sound(h, "a", "1.0")
}

// sound checks a machine that is at rest in a slot, and turns it off: the record, the
// slot, and the data partition.
func (e *engine) sound(h *host, slot, version string) error {
	if err := h.shutDown(); err != nil {
		return err
	}
	if err := errors.Join(h.counted(), h.holds(slot, version)); err != nil {
		return err
	}
	next, ok := h.watched.was.Next()
	if !ok || next.String() != slot || !h.watched.was.Slots[next].Successful {
		return fmt.Errorf("boot record at rest: got %+v, want slot %s committed", h.watched.was.Slots, slot)
	}
	return h.checkData()
}

// dataCopy copies the data partition of a machine that is off into a file, and checks the
// file system in it, which then is as if it had been unmounted.
func (h *host) dataCopy() (image string, err error) {
	image = filepath.Join(h.dir, "data.img")
	p, err := h.partition("data")
	if err != nil {
		return "", err
	}
	b, err := h.part(p.Start, p.Size)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(image, b, 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(h.ctx, bootLimit)
	defer cancel()
	fsck, err := findTool("e2fsck")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, fsck, "-f", "-p", image).CombinedOutput()
	var exit *exec.ExitError
	// 1: what a journal's replay and a dirty mount leave was put right.
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return "", fmt.Errorf("data partition: %w: %s", err, out)
	}
	return image, nil
}

// checkData checks the data partition: its file system, what the factory put there, and
// that every boot of which the machine said that it is written down is there.
func (h *host) checkData() error {
	image, err := h.dataCopy()
	if err != nil {
		return err
	}
	return errors.Join(h.checkImage(image), os.Remove(image))
}

// checkImage checks a copy of the data partition whose file system is sound.
func (h *host) checkImage(image string) error {
	ctx, cancel := context.WithTimeout(h.ctx, bootLimit)
	defer cancel()
	debugfs, err := findTool("debugfs")
	if err != nil {
		return err
	}
	canary, err := exec.CommandContext(ctx, debugfs, "-R", "cat /canary", image).Output()
	if err != nil || !bytes.Equal(canary, canaryContent()) {
		return fmt.Errorf("data partition: the factory's file is not what it was: %d bytes, %w", len(canary), err)
	}
	boots, err := exec.CommandContext(ctx, debugfs, "-R", "cat /boots", image).Output()
	if err != nil {
		return fmt.Errorf("data partition: %w", err)
	}
	said, err := h.keptBoots()
	if err != nil {
		return err
	}
	for n := range said {
		if line := fmt.Sprintf("%07d\n", n+1); !bytes.HasPrefix(boots, []byte(line)) {
			return fmt.Errorf("data partition: boot %d of %d that were written down is missing", n+1, said)
		}
		boots = boots[8:]
	}
	return nil
}

// keptBoots is how many boots the machine said it had written down.
func (h *host) keptBoots() (n int, _ error) {
	log, err := os.ReadFile(h.c.Log)
	if err != nil {
		return 0, err
	}
	n = h.kept
	const mark = "VM kept "
	for line := range strings.Lines(string(log)) {
		var now int
		// A line that the power cut ended names fewer.
		if i := strings.Index(line, mark); i >= 0 {
			if _, err := fmt.Sscanf(line[i:], mark+"%d", &now); err == nil {
				n = max(n, now)
			}
		}
	}
	return n, nil
}
