package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// phase is a part of an update in which the power is cut.
type phase struct {
	name   string
	armed  string        // release on trial in the disk to begin with; "": the update begins
	begin  string        // on the console
	spread time.Duration // the cut comes so long after that, or earlier
}

// phases are where cuts land. The times are those of an emulator.
var phases = []phase{
	{"stage", "", "step=stage", 1500 * time.Millisecond},
	{"read-back", "", "reading root back", 3 * time.Second},
	{"arm", "", "mark armed", 250 * time.Millisecond},
	{"trial", "2.0", "VM up slot=b", 3 * time.Second},
	{"commit", "2.0", "step=commit", 120 * time.Millisecond},
	{"revert", "2.2", "mark reverting", 400 * time.Millisecond},
}

// landmarks say, by the last of them on the console, in which phase a cut landed.
var landmarks = []struct{ text, phase string }{
	{"step=stage", "stage"}, {"reading root back", "read-back"}, {"reading boot back", "read-back"},
	{`step="mark armed"`, "arm"}, {"VM up slot=b", "trial"}, {"step=commit", "commit"}, {`step="mark reverting"`, "revert"},
}

// powerCuts returns n cuts, each phase in its turn.
func powerCuts(n int) (list []scenario) {
	for i := range n {
		p := phases[i%len(phases)]
		list = append(list, scenario{
			name: fmt.Sprintf("power cut %03d, %s", i, p.name), sample: true, releases: []string{"2.0", "2.2"},
			tell: func(e *engine, h *host, random *rand.Rand) error { return e.powerCut(h, p, random) },
		})
	}
	return list
}

// powerCut cuts the power in a phase, takes from the disk what a cut can take, and checks
// what is left.
func (e *engine) powerCut(h *host, p phase, random *rand.Rand) error {
	before := e.disks[grubBIOS.name]
	if p.armed != "" {
		before = e.armed[p.armed]
		if err := vm.Clone(before, h.c.Disk); err != nil {
			return err
		}
	}
	h.c.WriteLog = filepath.Join(h.dir, "writes")
	delay := time.Duration(random.Int64N(int64(p.spread)))
	if err := h.until(p); err != nil {
		return err
	}
	select {
	case <-time.After(delay):
	case <-h.ctx.Done():
	}
	h.off()
	landed, err := landedIn(h.c.Log)
	if err != nil {
		return err
	}
	lost, err := h.lose(before, random)
	if err != nil {
		return err
	}
	h.c.WriteLog = ""
	h.note("landed in %s, %d ms after its begin; %d unflushed writes lost, torn or kept", landed, delay.Milliseconds(), lost)
	e.mu.Lock()
	e.landed[landed]++
	e.mu.Unlock()
	return h.survived(p.armed)
}

// until lets the machine come as far as a phase's begin.
func (h *host) until(p phase) error {
	if p.armed == "" {
		if err := h.start(); err != nil {
			return err
		}
		if err := h.m.Say("run /usr/bin/twinkeel update 2.0 --now"); err != nil {
			return err
		}
	} else if err := h.on(); err != nil {
		return err
	}
	_, err := h.see(p.begin)
	return err
}

// landedIn says, by the console, how far the machine was.
func landedIn(log string) (string, error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return "", err
	}
	last, where := -1, "before the update"
	for _, l := range landmarks {
		if i := strings.LastIndex(string(b), l.text); i > last {
			last, where = i, l.phase
		}
	}
	return where, nil
}

// lose makes the disk what was durable on it and a random part of what was not: writes
// behind the last flush are lost, kept or torn.
func (h *host) lose(before string, random *rand.Rand) (unflushed int, err error) {
	effects, err := vm.ReadLog(h.c.WriteLog)
	if err != nil {
		return 0, err
	}
	if err := vm.Clone(before, h.c.Disk); err != nil {
		return 0, err
	}
	disk, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	safe := 0
	for i, e := range effects {
		if e.Flush {
			safe = i + 1
		}
	}
	if err := vm.Cut(disk, effects[:safe], nil); err != nil {
		return 0, err
	}
	if err := vm.Cut(disk, effects[safe:], random); err != nil {
		return 0, err
	}
	return len(effects) - safe, errors.Join(os.Remove(h.c.WriteLog), disk.Close())
}

// survived checks all that has to be so after a cut, whenever it came.
func (h *host) survived(armed string) error {
	slot, version := "b", "2.0"
	if armed == "2.2" {
		slot, version = "a", "1.0"
	}
	from := h.boots
	// What was interrupted goes on by itself, or is done again.
	s, err := h.rests(8, func(u up) error {
		if got := u["slot"] + u["release"]; got != "a1.0" && got != "b2.0" && got != "b2.2" || u["data"] != "writable" || h.boots-from > 3 {
			return fmt.Errorf("after the cut: got %v in boot %d", u, h.boots-from)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.Running != slot && armed != "2.2" {
		if err := h.update(version); err != nil {
			return err
		}
		if err := h.ends(slot, version, 6); err != nil {
			return err
		}
	} else if s.Running != slot || s.Next != slot {
		return fmt.Errorf("comes to rest on slot %s, next %s, want %s", s.Running, s.Next, slot)
	}
	if armed == "2.2" {
		if out, err := h.operator(4, "update", "2.2", "--now"); err != nil {
			return fmt.Errorf("a release with a verdict is tried again: %w: %s", err, out)
		}
	}
	// The whole slot, boot image and root, is the release that the record says.
	if out, err := h.operator(0, "verify", slot); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := h.shutDown(); err != nil {
		return err
	}
	return h.checkData()
}

// checkData checks the data partition's file system.
func (h *host) checkData() error {
	image := filepath.Join(h.dir, "data.img")
	b, err := h.part(dataAt, dataSize*mib)
	if err != nil {
		return err
	}
	if err := os.WriteFile(image, b, 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	fsck, err := findTool("e2fsck")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, fsck, "-f", "-p", image).CombinedOutput()
	var exit *exec.ExitError
	// 1: what a journal's replay and a dirty mount leave was put right.
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("data partition: %w: %s", err, out)
	}
	return os.Remove(image)
}
