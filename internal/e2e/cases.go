package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// scenarios returns all cases.
func scenarios() []scenario {
	return []scenario{
		{name: "update by delta, commit, manual rollback", sample: true, releases: []string{"2.0"}, tell: updates},
		{name: "unhealthy, then a second bad release, then a good one", sample: true, releases: []string{"2.0", "2.1", "2.2"}, tell: badThenGood("2.1")},
		{name: "no kernel in the slot", sample: true, releases: []string{"2.5"}, tell: fallsBack("2.5")},
		{name: "init hangs", releases: []string{"2.3"}, tell: fallsBack("2.3")},
		{name: "agent missing", sample: true, releases: []string{"2.4"}, tell: fallsBack("2.4")},
		{name: "agent's configuration cannot be read", releases: []string{"2.6"}, tell: fallsBack("2.6")},
		{name: "everything stopped, guard included", releases: []string{"2.7"}, tell: fallsBack("2.7")},
		{name: "server gone in the middle", sample: true, releases: []string{"2.0"}, tell: serverGone},
		{name: "a byte of the trial's root flipped", sample: true, releases: []string{"2.0"}, tell: flipped},
		{name: "a byte of the committed root flipped", releases: []string{"2.0"}, tell: flippedLater},
		{name: "wrong root hash", sample: true, releases: []string{"2.0"}, tell: wrongHash},
		{name: "data partition missing in the trial", sample: true, releases: []string{"2.0"}, tell: noDataInTrial},
		{name: "data partition missing, committed", tell: noData},
		{name: "data partition full", releases: []string{"2.0"}, tell: diskFull},
		{name: "GRUB on UEFI: update, bad release, good one", releases: []string{"2.0", "2.1", "2.2"}, loader: grubUEFI, tell: badThenGood("2.1")},
		{name: "systemd-boot: update, bad release, good one", sample: true, releases: []string{"2.0", "2.2"}, loader: systemdBoot, tell: badThenGood()},
	}
}

// start boots the machine and waits until its agent answers.
func (h *host) start() error {
	if _, err := h.boot(3); err != nil {
		return err
	}
	_, err := h.see("msg=started")
	return err
}

// update asks the agent of the running slot for a release, and waits until the machine
// goes down for the trial.
func (h *host) update(version string) error {
	out, err := h.operator(0, "update", version, "--now")
	if err != nil {
		return err
	}
	if h.m != nil {
		return fmt.Errorf("the machine did not go down after update %s: %s", version, out)
	}
	return nil
}

// updated starts the machine and updates it to a release that then is armed.
func (h *host) updated(version string) error {
	if err := h.start(); err != nil {
		return err
	}
	return h.update(version)
}

// updates is the good case, and the way back.
func updates(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	began, cpu := time.Now(), h.cpu
	if err := h.ends("b", "2.0", 4); err != nil {
		return err
	}
	h.note("from the reboot to committed and at rest: %.1f s, %.1f s of processor, of which 2 s of soaking", time.Since(began).Seconds(), (h.cpu + h.m.CPU() - cpu).Seconds())
	if out, err := h.operator(0, "rollback", "--reason", "test"); err != nil || h.m != nil {
		return fmt.Errorf("rollback: the machine did not go down: %s, %w", out, err)
	}
	return h.ends("a", "1.0", 4)
}

// fallsBack tells of a release that does not get through its trial.
func fallsBack(version string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error {
		if err := h.updated(version); err != nil {
			return err
		}
		began := time.Now()
		if err := h.ends("a", "1.0", 8); err != nil {
			return err
		}
		h.note("from the reboot into the bad release to the old one at rest: %.1f s", time.Since(began).Seconds())
		return nil
	}
}

// badThenGood tells of an unhealthy release, of more that do not get through their trials,
// and of the good one in the end.
func badThenGood(more ...string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error { return h.badThenGood(more) }
}

func (h *host) badThenGood(more []string) error {
	if err := h.updated("2.2"); err != nil {
		return err
	}
	began := time.Now()
	if err := h.ends("a", "1.0", 4); err != nil {
		return err
	}
	h.note("from the reboot into the unhealthy release to the old one at rest: %.1f s", time.Since(began).Seconds())
	if out, err := h.operator(4, "update", "2.2", "--now"); err != nil {
		return fmt.Errorf("a denied release: %w: %s", err, out)
	}
	for _, version := range more {
		if err := h.update(version); err != nil {
			return err
		}
		if err := h.ends("a", "1.0", 8); err != nil {
			return err
		}
	}
	if err := h.update("2.0"); err != nil {
		return err
	}
	return h.ends("b", "2.0", 4)
}

// serverGone cuts all connections in the middle of the download, and repeats the update
// when they work again.
func serverGone(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	h.relay.cutAfter(mib)
	if code, out, err := h.run("/usr/bin/twinkeel", "update", "2.0", "--now"); err != nil || code == 0 {
		return fmt.Errorf("an update without a server: exit code %d, %s, %w", code, out, err)
	}
	if s, err := h.status(); err != nil || s.Running != "a" || s.Next != "a" {
		return fmt.Errorf("without a server: %+v, %w", s, err)
	}
	h.relay.cutAfter(0)
	if err := h.update("2.0"); err != nil {
		return err
	}
	return h.ends("b", "2.0", 4)
}

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
	if code, out, err := h.run("/usr/bin/twinkeel", "update", "--now"); err != nil || code == 0 {
		return fmt.Errorf("it installs without state: exit code %d, %s, %w", code, out, err)
	}
	h.off()
	if _, err := h.swap(dataAt, dataSize*mib, kept); err != nil {
		return err
	}
	return h.ends("a", "1.0", 2)
}

// diskFull fills the data partition before the update, and empties it afterwards.
func diskFull(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	if err := h.m.Say("fill /data/ballast"); err != nil {
		return err
	}
	if _, err := h.see("VM filled"); err != nil {
		return err
	}
	if code, out, err := h.run("/usr/bin/twinkeel", "update", "2.0", "--now"); err != nil || code == 0 {
		return fmt.Errorf("an update without room for its state: exit code %d, %s, %w", code, out, err)
	}
	h.off()
	if err := h.start(); err != nil {
		return err
	}
	if err := h.m.Say("remove /data/ballast"); err != nil {
		return err
	}
	if err := h.update("2.0"); err != nil {
		return err
	}
	return h.ends("b", "2.0", 4)
}
