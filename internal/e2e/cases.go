package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
)

// scenarios returns all cases.
func scenarios() []scenario {
	return []scenario{
		{name: "unhealthy, no kernel, a panic, then a good one, rollback by hand", sample: true, releases: []string{"2.0", "2.1", "2.2", "2.5"}, tell: wholeLife},
		{name: "agent missing", sample: true, releases: []string{"2.4"}, tell: timedBack("agent missing", "2.4")},
		{name: "update by delta, commit, manual rollback", releases: []string{"2.0"}, tell: updates},
		{name: "no kernel in the slot", releases: []string{"2.5"}, tell: noKernel},
		{name: "init panics", releases: []string{"2.1"}, tell: fallsBack("2.1")},
		{name: "init hangs", releases: []string{"2.3"}, tell: timedBack("init hangs", "2.3", "no commit within")},
		{name: "agent's configuration cannot be read, it ends again and again", releases: []string{"2.6"}, tell: fallsBack("2.6")},
		{name: "everything stopped, guard included", releases: []string{"2.7"}, tell: fallsBack("2.7")},
		{name: "kernel busy with one thread, nothing else runs", releases: []string{"2.9"}, tell: fallsBack("2.9")},
		{name: "kernel hangs without interrupts, a watchdog in hardware ends it", releases: []string{"2.10"}, loader: hasWatchdog, tell: fallsBack("2.10")},
		{name: "a panic kept in memory, by ramoops", releases: []string{"2.1", "2.2"}, loader: keepsMemory, tell: panicShown},
		{name: "a panic kept in UEFI's variables, by efi-pstore", releases: []string{"2.1", "2.2"}, loader: systemdBoot, tell: panicShown},
		{name: "agent with a newer state format dies in its trial", releases: []string{"2.8", "2.0"}, tell: newFormat},
		{name: "server gone in the middle", releases: []string{"2.0"}, tell: serverGone},
		{name: "a byte of the trial's root flipped", releases: []string{"2.0"}, tell: flipped},
		{name: "a byte of the committed root flipped", releases: []string{"2.0"}, tell: flippedLater},
		{name: "a byte of the trial's boot image flipped", releases: []string{"2.0"}, tell: flippedBoot},
		{name: "a byte of the running root flipped, nothing else to start", tell: rotsAlone},
		{name: "a byte of the running root flipped, the old slot is there", releases: []string{"2.0"}, tell: rotsBeside},
		{name: "every trial lost: tried again three times, then no more", releases: []string{"2.1"}, tell: alwaysLost},
		{name: "wrong root hash", releases: []string{"2.0"}, tell: wrongHash},
		{name: "data partition missing in the trial", releases: []string{"2.0"}, tell: noDataInTrial},
		{name: "data partition missing, committed", tell: noData},
		{name: "data partition read-only, in the trial and after it", releases: []string{"2.0"}, tell: readOnlyData},
		{name: "expired metadata", releases: []string{"2.0"}, tell: expired},
		{name: "data partition full", releases: []string{"2.0"}, tell: diskFull},
		{name: "initramfs-tools: update by delta, commit, manual rollback", releases: []string{"2.0"}, loader: ownInitramfs, tell: updates},
		{name: "initramfs-tools: everything stopped, guard included", releases: []string{"2.7"}, loader: ownInitramfs, tell: fallsBack("2.7")},
		{name: "root on ext4, changes under /etc, doctor", releases: []string{"2.0", "2.2"}, loader: ext4Root, tell: layered},
		{name: "GRUB on UEFI: update, commit", sample: true, releases: []string{"2.0"}, loader: grubUEFI, tell: commits},
		{name: "systemd-boot: update, commit", sample: true, releases: []string{"2.0"}, loader: systemdBoot, tell: commits},
		{name: "arm64, GRUB on UEFI: update by delta, commit", releases: []string{"2.0"}, loader: arm64, tell: commits},
		{name: "sectors of 4 KiB, GRUB on UEFI: unhealthy, then a good one", releases: []string{"2.0", "2.2"}, loader: largeSectors, tell: badThenGood()},
		{name: "GRUB on UEFI: unhealthy, panic, good one", releases: []string{"2.0", "2.1", "2.2"}, loader: grubUEFI, tell: badThenGood("2.1")},
		{name: "systemd-boot: unhealthy, panic, good one", releases: []string{"2.0", "2.1", "2.2"}, loader: systemdBoot, tell: badThenGood("2.1")},
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

// commits is the good case.
func commits(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.0"); err != nil {
		return err
	}
	if delta, err := h.said("OUT stage: root by delta"); err != nil || !delta {
		return fmt.Errorf("the root was not updated by delta, %w", err)
	}
	began, cpu := time.Now(), h.cpu
	if err := h.ends("b", "2.0", 4); err != nil {
		return err
	}
	h.note("from the reboot to committed and at rest: %.1f s, %.1f s of processor, of which 2 s of soaking", time.Since(began).Seconds(), (h.cpu + h.m.CPU() - cpu).Seconds())
	return nil
}

// updates is the good case, and the way back.
func updates(e *engine, h *host, random *rand.Rand) error {
	if err := commits(e, h, random); err != nil {
		return err
	}
	return h.goesBack()
}

// goesBack has a machine that stands go back by hand.
func (h *host) goesBack() error {
	if out, err := h.operator(0, "rollback", "--reason", "test"); err != nil || h.m != nil {
		return fmt.Errorf("rollback: the machine did not go down: %s, %w", out, err)
	}
	return h.ends("a", "1.0", 4)
}

// fallsBack tells of a release that does not get through its trial, and whose kernel's
// log, as the old one shows it, has the words.
func fallsBack(version string, words ...string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error {
		if err := h.fellBack(version, words); err != nil {
			return err
		}
		return h.disarmed()
	}
}

// timedBack is the same, and measures how long nothing served.
func timedBack(fault, version string, words ...string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error {
		if err := h.timed(fault, func() error { return h.fellBack(version, words) }); err != nil {
			return err
		}
		return h.disarmed()
	}
}

func (h *host) fellBack(version string, words []string) error {
	if err := h.updated(version); err != nil {
		return err
	}
	began := time.Now()
	if err := h.ends("a", "1.0", 8); err != nil {
		return err
	}
	h.note("from the reboot into the bad release to the old one at rest: %.1f s", time.Since(began).Seconds())
	out, err := h.operator(0, "history", "-n", "1")
	for _, w := range words {
		if err == nil && !strings.Contains(out, w) {
			err = fmt.Errorf("history: got %s, want a kernel's log with %q", out, w)
		}
	}
	return err
}

// noKernel tells of a release that the loader cannot start. It says so itself, in the boot
// in which it goes on: that is a verdict, and the release is not tried again.
func noKernel(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	if err := h.startsNothing(); err != nil {
		return err
	}
	return h.disarmed()
}

// startsNothing updates a machine that is up to that release.
func (h *host) startsNothing() error {
	if err := h.update("2.5"); err != nil {
		return err
	}
	if err := h.ends("a", "1.0", 4); err != nil {
		return err
	}
	if err := h.refused(agent.CodeDenied, "update", "2.5", "--now"); err != nil {
		return fmt.Errorf("a release that the loader cannot start: %w", err)
	}
	return nil
}

// panicShown tells of a release whose kernel panics and saves its log itself: the old one
// shows that, takes it for a verdict and out of where it was saved, and does not show it for
// the next release that fails in the same slot.
func panicShown(_ *engine, h *host, _ *rand.Rand) error {
	const saved, panicked = "saved by the kernel in its panic", "Kernel panic - not syncing: Attempted to kill init"
	if err := h.fellBack("2.1", []string{saved, panicked}); err != nil {
		return err
	}
	if err := h.refused(agent.CodeDenied, "update", "2.1", "--now"); err != nil {
		return fmt.Errorf("a release whose panic was kept: %w", err)
	}
	if err := h.disarmed(); err != nil {
		return err
	}
	if err := h.updated("2.2"); err != nil {
		return err
	}
	if err := h.ends("a", "1.0", 4); err != nil {
		return err
	}
	out, err := h.operator(0, "history", "-n", "1")
	if err != nil || !strings.Contains(out, "kernel: slot b") || strings.Contains(out, saved) || strings.Contains(out, panicked) {
		return fmt.Errorf("history: got %s, %w; want the log of 2.2, and nothing of a panic", out, err)
	}
	return nil
}

// disarmed turns a machine off that fell back to slot a, and checks that the loader has
// nothing left to try.
func (h *host) disarmed() error {
	if err := h.shutDown(); err != nil {
		return err
	}
	s, err := h.record()
	if err != nil {
		return err
	}
	a, b := s.Slots[partitions.A], s.Slots[partitions.B]
	if !a.Successful || b.Bootable() {
		return fmt.Errorf("boot record after a fallback: a %+v, b %+v; want a committed, b with nothing left to try", a, b)
	}
	return nil
}

// newFormat tells of a trial whose agent writes the state in a format that the old one
// does not read, if it may, and dies: the old one goes on, and updates.
func newFormat(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.updated("2.8"); err != nil {
		return err
	}
	if err := h.ends("a", "1.0", 8); err != nil {
		return err
	}
	if err := h.update("2.0"); err != nil {
		return err
	}
	return h.ends("b", "2.0", 4)
}

// wholeLife tells of one machine: bad releases that end in three ways, the good one, and the way back.
func wholeLife(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.unhealthy(); err != nil {
		return err
	}
	if err := h.startsNothing(); err != nil {
		return err
	}
	if err := h.thenGood("2.1"); err != nil {
		return err
	}
	return h.goesBack()
}

// badThenGood tells of an unhealthy release, of more that do not get through their trials,
// and of the good one in the end.
func badThenGood(more ...string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error {
		if err := h.unhealthy(); err != nil {
			return err
		}
		return h.thenGood(more...)
	}
}

// unhealthy starts a machine and updates it to a release that is left for its probes.
func (h *host) unhealthy() error {
	if err := h.updated("2.2"); err != nil {
		return err
	}
	if err := h.timed("dead service", func() error { return h.ends("a", "1.0", 4) }); err != nil {
		return err
	}
	if err := h.refused(agent.CodeDenied, "update", "2.2", "--now"); err != nil {
		return fmt.Errorf("a denied release: %w", err)
	}
	return h.explained()
}

// thenGood updates a machine that is up to bad releases, and to the good one.
func (h *host) thenGood(bad ...string) error {
	for _, version := range bad {
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

// explained checks that the old slot shows why the unhealthy release was left: which probes
// failed, and what they printed.
func (h *host) explained() error {
	out, err := h.operator(0, "history", "-n", "1")
	if err != nil {
		return err
	}
	for _, want := range []string{"probe web: http://127.0.0.1/healthz: unhealthy: got HTTP status 503", "| shelf: ", `unknown command "stock"`} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("history of an unhealthy release: got %s, want %q", out, want)
		}
	}
	return nil
}

// serverGone cuts all connections in the middle of the download, and repeats the update
// when they work again.
func serverGone(_ *engine, h *host, _ *rand.Rand) error {
	if err := h.start(); err != nil {
		return err
	}
	h.relay.cutAfter(mib)
	if err := h.refused(agent.CodeUnavailable, "update", "2.0", "--now"); err != nil {
		return fmt.Errorf("an update without a server: %w", err)
	}
	if staging, err := h.said("step=stage "); err != nil || !staging || !h.relay.wasCut() {
		return fmt.Errorf("the server did not go in the middle: staging %t, cut %t, %w", staging, h.relay.wasCut(), err)
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
	if err := h.refused(agent.CodeState, "update", "2.0", "--now"); err != nil {
		return fmt.Errorf("an update without room for its state: %w", err)
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

// expired sets the machine's clock to a time at which the repository was long abandoned.
func expired(_ *engine, h *host, _ *rand.Rand) error {
	h.c.Clock = "2040-01-01T00:00:00"
	if err := h.start(); err != nil {
		return err
	}
	if err := h.refused(agent.CodeExpired, "update", "2.0", "--now"); err != nil {
		return fmt.Errorf("expired metadata: %w", err)
	}
	s, err := h.status()
	if err != nil || s.Running != "a" || s.Next != "a" {
		return fmt.Errorf("expired metadata: got %+v, %w", s, err)
	}
	return nil
}
