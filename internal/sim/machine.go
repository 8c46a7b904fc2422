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
	Apps  *Applications // nil: there are none
	// Releases are all that were ever published: nothing else may run.
	Releases []*Release
	// Options are what every agent on the machine is made of.
	Options agent.Options
	// Interrupt, if set, is asked when a system comes up; true cuts the power there.
	Interrupt func(r *Release, trial bool) bool
	// KeepsPanic, if set, is asked when a kernel panics; true: the machine has a place for
	// what that saves.
	KeepsPanic func() bool
	// Entered, if set, is told of every system that comes up.
	Entered func(r *Release)
	// Boots counts the starts that an agent has seen; Starts counts all.
	Boots, Starts int

	// MetadataVersions are the versions of all root, timestamp and snapshot files that
	// were ever published, by content.
	MetadataVersions map[string]int64

	slots  *Slots
	loader *watched
	holds  [2]held
	boot   bootloader.Boot
	up     bool
	since  time.Duration // age of the world when this boot began
	runs   *Release      // what the running slot holds
	passed bool          // the required probe passed in this boot
	// firstPass is the age of the world when the probe began to pass.
	firstPass time.Duration
	lapsed    agent.Hold // one that was over before the clock was turned back
	account
	panics panics
}

// NewMachine returns a machine with partitions of the given size for the images of
// factory, which its slot A holds, committed.
func NewMachine(seed uint64, start time.Time, size int64, root []byte, factory *Release, open OpenLoader) (*Machine, error) {
	return NewMachineIn(NewWorld(seed, start), size, root, factory, open)
}

// NewMachineIn is NewMachine in a world that is there.
func NewMachineIn(w *World, size int64, root []byte, factory *Release, open OpenLoader) (*Machine, error) {
	m := &Machine{World: w, Net: w.NewNet(), State: w.NewDir("state"), Releases: []*Release{factory}}
	m.account = account{committed: factory.Manifest.Version, epoch: factory.Manifest.Epoch, lower: map[string]bool{},
		denied: map[release.Digest]uint64{}, pardoned: map[release.Digest]bool{}, forgiven: map[agent.Denial]bool{}, versions: map[string]int64{}, seen: map[string]*byte{}, records: map[*byte]any{}}
	m.panics.inTrial = map[release.Digest]bool{}
	m.failures = failures{seen: map[uint64]bool{}, failed: map[string]bool{}}
	m.ran = map[string]ran{}
	m.slots = &Slots{w: w, running: func() partitions.Slot { return m.boot.Slot }, writers: map[*Disk]int{}}
	w.parts = append(w.parts, m.slots)
	var images []string
	for _, i := range factory.Manifest.Images {
		images = append(images, i.Name)
	}
	for _, slot := range partitions.Slots {
		m.slots.disks[slot] = map[string]*Disk{}
		for _, name := range images {
			d := w.NewDisk(name+"-"+slot.String(), size, max(w.Sector, 512), release.BlockSize)
			d.guard = func(int64, int) { m.neverWriteWhatIsInUse(slot) }
			m.slots.disks[slot][name] = d
		}
	}
	for name, part := range factory.parts {
		m.slots.disks[partitions.A][name].Fill(part)
	}
	m.loader = &watched{m: m}
	var err error
	if m.loader.Firmware, err = open(w, bootloader.State{Slots: [2]bootloader.Record{{Priority: 2, Successful: true}, {}}, Epoch: factory.Manifest.Epoch}, factory.description()); err != nil {
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
		Uptime: func() time.Duration { return m.age - m.since },
		Random: func() uint64 { return m.rng.Uint64() },
		Reboot: m.Reboot, KernelLog: m.kernelLog, Log: slog.New(slog.DiscardHandler),
	}
}

// OnTrial reports whether the system that is up was not committed yet.
func (m *Machine) OnTrial() bool {
	return m.up && !m.loader.peek().Slots[m.boot.Slot].Successful
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
	stamp := uint64(len(m.Releases))
	for _, d := range m.slots.disks[slot] {
		stamp += d.views << 8 // none of them ever falls
	}
	if h := &m.holds[slot]; h.stamp != stamp {
		*h = held{stamp: stamp}
		for _, r := range m.Releases {
			if r.in(m.slots.disks[slot], false) {
				h.release = r
				break
			}
		}
	}
	return m.holds[slot].release
}

// held is the release that a slot held at a stamp.
type held struct {
	stamp   uint64 // 0: never looked at
	release *Release
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
	if end == Returned {
		m.rollbackEnds()
	}
	m.afterwards()
	return end
}

// Restart leaves this boot between two processes: by an orderly shutdown, or because
// the power goes.
func (m *Machine) Restart(end End) {
	if !m.up {
		return
	}
	m.Run(func() { panic(ending{end}) })
	m.up = false
}

// Spoil turns a bit of a slot that does not run, while the other one stands. What rots
// between the read-back and the arming in one boot is for the kernel to find.
func (m *Machine) Spoil(slot partitions.Slot, image string, off int64) {
	other := slot.Other()
	if m.up && slot == m.boot.Slot || m.Standing() != other || !m.loader.peek().Slots[other].Successful {
		return
	}
	if m.up && m.Journal().VerifiedIn != "" {
		return
	}
	m.Disk(slot, image).Rot(off)
	m.rotten[slot] = true
}

// Once is the work of twinkeeld --once.
func Once(a *agent.Agent) { _ = a.Once(context.Background()) }

// SpoilRecord turns a bit of one copy of the boot record, where all is well with both.
func (m *Machine) SpoilRecord(copy, at int) {
	if s, _, err := m.loader.Peek(true); err == nil && s == m.loader.peek() {
		m.loader.Rot(copy, at)
		m.spoilt = true
	}
}

// start powers the machine on, as often as it takes until a system with an agent is up.
func (m *Machine) start() End {
	starts := 0
	for starts <= int(m.Options.Tries) {
		m.Starts++
		m.up, m.runs = false, nil
		var b bootloader.Boot
		var err error
		failing, fate, cutAs := m.failAt > 0, m.Fate, m.cutAs
		if m.spoilt {
			// Both copies at once are more than any loader stands: while one is damaged, the
			// other is written or not, and not torn, nor left for a later cut to tear.
			failing, m.failAt, m.cutAs = false, 0, PowerCut
			if fate == Mixed {
				m.Fate = Lost
			}
		}
		end := m.Run(func() {
			b, err = m.loader.PowerOn(context.Background(), fmt.Sprintf("boot-%d", m.Starts), m.loadable)
		})
		m.Fate, m.cutAs = fate, cutAs
		m.Pass(bootTime)
		switch {
		case end != Returned:
			return end
		case failing && m.failAt == 0:
			// A machine that cannot read its boot record stays off until it can.
			return PowerCut
		case err != nil:
			m.alwaysBoots(0, err)
			return PowerCut
		}
		switch came, cut := m.enter(b); {
		case came:
			return Returned
		case !cut:
			starts++
		}
	}
	m.alwaysBoots(starts, nil)
	return PowerCut
}

// loadable tells the loader whether it finds a kernel in the slot that it picked.
func (m *Machine) loadable(slot partitions.Slot) bool {
	m.onlyVerifiedBits(slot)
	r := m.verified(slot)
	return r == nil || r.Behaviour != Unloadable
}

// enter boots a slot that the loader picked. If no agent came up the machine resets, by
// itself or because the power was cut.
func (m *Machine) enter(b bootloader.Boot) (came, cut bool) {
	r := m.verified(b.Slot)
	if r == nil {
		return false, false
	}
	trial := !m.loader.peek().Slots[b.Slot].Successful
	if trial {
		m.trialIsCounted(b.Slot)
	}
	m.rotten[b.Slot] = false
	if !m.Quiet {
		m.note("slot %s starts with %s; on trial: %t", b.Slot, r, trial)
	}
	switch {
	case m.Interrupt != nil && m.Interrupt(r, trial):
		m.note("power cut in slot %s", b.Slot)
		return false, true
	case r.Behaviour == Unbootable:
		m.panicked(b.Slot, r)
		return false, false
	case r.Behaviour == Mute:
		m.Pass(DeadMan)
		return false, false
	}
	m.boot, m.runs, m.up, m.since, m.passed = b, r, true, m.age, false
	m.Boots++
	if m.Entered != nil {
		m.Entered(r)
	}
	return true, false
}

// Record returns the boot record as a reader sees it.
func (m *Machine) Record() bootloader.State { return m.loader.peek() }

// Standing returns the slot that the boot record starts next.
func (m *Machine) Standing() partitions.Slot {
	slot, _ := m.loader.peek().Next()
	return slot
}

// probes carries out the health checks of the running release. It implements
// agent.Health.
type probes struct{ m *Machine }

var errProbe = errors.New("connection refused")

// Check implements agent.Health.
func (p probes) Check(_ context.Context, probe agent.Probe) error {
	if err := p.m.call(op{verb: "probe", name: probe.Name}); err != nil {
		return err
	}
	age := p.m.age - p.m.since
	switch b := p.m.runs.Behaviour; {
	case b == Unhealthy, b == Flapping && age > time.Minute:
		p.m.passed = false
		return errProbe
	}
	if !p.m.passed {
		p.m.passed, p.m.firstPass = true, p.m.age
	}
	return nil
}
