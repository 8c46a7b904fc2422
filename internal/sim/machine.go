package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// The times of a Machine.
const (
	Deadline = 10 * time.Minute // of health
	Soak     = 2 * time.Minute
	DeadMan  = 15 * time.Minute // after which a boot without an agent is reset
	bootTime = 20 * time.Second
)

// Machine is a computer: two slots, a boot record, a state directory and a network.
// Its laws are watched while it runs; World.Broken tells which were broken.
type Machine struct {
	*World
	Net   *Net
	State *Dir
	// Releases are all that were ever published: nothing else may run.
	Releases []*Release
	// Options are what every agent on the machine is made of.
	Options agent.Options
	// Interrupt, if set, is asked when a system comes up; true cuts the power there.
	Interrupt func(r *Release, trial bool) bool
	// Boots counts the starts that an agent has seen; Starts counts all.
	Boots, Starts int

	slots  *Slots
	loader *watched
	boot   bootloader.Boot
	up     bool
	since  time.Time // when this boot began
	runs   *Release  // what the running slot holds
	passed bool      // the required probe passed in this boot
}

// NewMachine returns a machine with partitions of the given size for the images of
// factory, which its slot A holds, committed.
func NewMachine(seed uint64, start time.Time, size int64, root []byte, factory *Release, open OpenLoader) (*Machine, error) {
	w := NewWorld(seed, start)
	m := &Machine{World: w, Net: w.NewNet(), State: w.NewDir("state"), Releases: []*Release{factory}}
	m.slots = &Slots{w: w, running: func() partitions.Slot { return m.boot.Slot }, writers: map[*Disk]int{}}
	w.parts = append(w.parts, m.slots)
	var images []string
	for _, i := range factory.Manifest.Images {
		images = append(images, i.Name)
	}
	for _, slot := range partitions.Slots {
		m.slots.disks[slot] = map[string]*Disk{}
		for _, name := range images {
			d := w.NewDisk(name+"-"+slot.String(), size, 512, release.BlockSize)
			d.guard = func(int64, int) { m.mayWrite(slot) }
			m.slots.disks[slot][name] = d
		}
	}
	for name, part := range factory.parts {
		m.slots.disks[partitions.A][name].Fill(part)
	}
	m.loader = &watched{m: m}
	var err error
	if m.loader.Firmware, err = open(w, bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {}}}, factory.description()); err != nil {
		return nil, fmt.Errorf("open boot loader: %w", err)
	}
	m.Options = m.options(images, root)
	return m, nil
}

func (m *Machine) options(images []string, root []byte) agent.Options {
	updater, _ := release.ParseVersion("1.0")
	return agent.Options{
		Updater: updater, Channel: Channel, Compatible: Compatible, HostID: "machine",
		Rollout: policy.RolloutDirective, Images: images, Tries: 3, Interval: 30 * time.Minute,
		Rules: health.Rules{Deadline: Deadline, Soak: Soak}, Every: 20 * time.Second,
		Probes: []agent.Probe{{Name: "service", Command: []string{"/bin/true"}, Required: true, Timeout: 5 * time.Second}},
		State:  m.State, Factory: root, BuildTime: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Slots: m.slots, Loader: m.loader, Net: m.Net, Health: probes{m}, Clock: m.Clock(),
		Uptime: func() time.Duration { return m.now.Sub(m.since) },
		Random: func() uint64 { return m.rng.Uint64() },
		Reboot: m.Reboot, Log: slog.New(slog.DiscardHandler),
	}
}

// Running returns the release that runs, or nil while the machine is off.
func (m *Machine) Running() *Release {
	if !m.up {
		return nil
	}
	return m.runs
}

// Holds returns the release that a slot holds, or nil.
func (m *Machine) Holds(slot partitions.Slot) *Release {
	for _, r := range m.Releases {
		if r.in(m.slots.disks[slot]) {
			return r
		}
	}
	return nil
}

// Disk returns a partition, to spoil it.
func (m *Machine) Disk(slot partitions.Slot, image string) *Disk { return m.slots.disks[slot][image] }

// Process runs work with a new agent, in this boot if the machine is up and otherwise
// after a start. It returns how that ended; a power cut or a reboot leaves the machine
// off.
func (m *Machine) Process(work func(*agent.Agent)) End {
	if !m.up {
		if end := m.start(); end != Returned {
			return end
		}
	}
	end := m.Run(func() {
		a, err := agent.New(m.Options)
		if err != nil {
			panic(err)
		}
		work(a)
	})
	if end == PowerCut || end == Rebooted {
		m.up = false
	}
	return end
}

// Once is the work of twinkeeld --once.
func Once(a *agent.Agent) { _ = a.Once(context.Background()) }

// start powers the machine on, as often as it takes until a system with an agent is up.
func (m *Machine) start() End {
	limit := int(m.Options.Tries) + 1
	for range limit {
		m.Starts++
		m.up, m.runs = false, nil
		var b bootloader.Boot
		var err error
		end := m.Run(func() {
			b, err = m.loader.PowerOn(context.Background(), fmt.Sprintf("boot-%d", m.Starts), m.loadable)
		})
		m.now = m.now.Add(bootTime)
		switch {
		case end != Returned:
			return end
		case errors.Is(err, ErrInjected):
			// A machine that cannot read its boot record stays off until it can.
			return PowerCut
		case err != nil:
			m.Break("law 1: the loader starts nothing: %v", err)
			return PowerCut
		}
		if m.enter(b) {
			return Returned
		}
	}
	m.Break("law 1: no system is up after %d starts", limit)
	return PowerCut
}

// loadable tells the loader whether it finds a kernel in the slot that it picked.
func (m *Machine) loadable(slot partitions.Slot) bool {
	r := m.picked(slot)
	return r == nil || r.Behaviour != Unloadable
}

// enter boots a slot that the loader picked; false means that the machine resets.
func (m *Machine) enter(b bootloader.Boot) bool {
	r := m.Holds(b.Slot)
	if r == nil {
		return false
	}
	trial := !m.loader.peek().Slots[b.Slot].Successful
	m.note("slot %s starts with %s, which is %s; on trial: %t", b.Slot, r.Manifest.Version, r.Behaviour, trial)
	switch {
	case m.Interrupt != nil && m.Interrupt(r, trial):
		m.note("power cut in slot %s", b.Slot)
		return false
	case r.Behaviour == Unbootable:
		return false
	case r.Behaviour == Mute:
		m.now = m.now.Add(DeadMan)
		return false
	}
	m.boot, m.runs, m.up, m.since, m.passed = b, r, true, m.now, false
	m.Boots++
	return true
}

// picked checks what the loader is about to run.
func (m *Machine) picked(slot partitions.Slot) *Release {
	r := m.Holds(slot)
	if r == nil {
		m.Break("law 2: the loader picked slot %s, which holds no published release", slot)
		return nil
	}
	if d := m.loader.described(slot); d == nil || (d.Root != r.root() || d.Version.Compare(r.Manifest.Version) != 0) {
		m.Break("law 1: the loader describes slot %s as %+v, it holds %s", slot, d, r.Manifest.Version)
	}
	return r
}

// Record returns the boot record as a reader sees it.
func (m *Machine) Record() bootloader.State { return m.loader.peek() }

// Standing returns the slot that the boot record starts next.
func (m *Machine) Standing() partitions.Slot {
	slot, _ := m.loader.peek().Next()
	return slot
}

// mayWrite is asked before a write to a slot: it must not run, it must not be bootable,
// durably, and the other one must be a committed slot.
func (m *Machine) mayWrite(slot partitions.Slot) {
	s := m.loader.durable()
	switch other := s.Slots[slot.Other()]; {
	case slot == m.boot.Slot:
		m.Break("law 3: a write to slot %s, which runs", slot)
	case s.Slots[slot].Priority != 0:
		m.Break("law 3: a write to slot %s, whose record %+v was not cleared", slot, s.Slots[slot])
	case !other.Successful || !other.Bootable():
		m.Break("law 3: a write to slot %s while slot %s is no fallback: %+v", slot, slot.Other(), other)
	}
}

// probes carries out the health checks of the running release. It implements
// agent.Health.
type probes struct{ m *Machine }

var errProbe = errors.New("connection refused")

// Check implements agent.Health.
func (p probes) Check(_ context.Context, probe agent.Probe) error {
	if err := p.m.call("probe %s", probe.Name); err != nil {
		return err
	}
	age := p.m.now.Sub(p.m.since)
	switch b := p.m.runs.Behaviour; {
	case b == Unhealthy, b == Flapping && age > time.Minute:
		return errProbe
	}
	p.m.passed = true
	return nil
}
