package sim

import (
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// panics is what the kernels of a machine saved of their panics, and what the laws make
// of it.
type panics struct {
	kept [2]lastPanic // the newest of each slot
	// inTrial are the releases whose kernel panicked in their last trial, which was kept.
	inTrial map[release.Digest]bool
	// condemned is the transaction whose trial left evidence of a panic that its journal
	// can tell to be its own; 0: none.
	condemned uint64
}

// lastPanic is what one kernel saved.
type lastPanic struct {
	root release.Digest
	at   time.Time // zero: there is none
}

// panicked is what happens when the kernel of a release panics: where the machine has a place
// for it, that is kept.
func (m *Machine) panicked(slot partitions.Slot, r *Release) {
	if m.KeepsPanic == nil || !m.KeepsPanic() {
		return
	}
	at := m.Clock().Now().UTC().Truncate(time.Second)
	m.note("the panic in slot %s is kept", slot)
	m.panics.kept[slot] = lastPanic{r.root(), at}
	m.panics.inTrial[r.Manifest.Deployment()] = true
	t := m.Journal()
	switch {
	case t.Phase != agent.Armed || t.Slot != slot:
	case !t.ArmedAt.IsZero() && !at.Before(t.ArmedAt) && !at.Equal(t.OldPanic):
		m.panics.condemned = t.Seq
	default:
		m.panics.condemned = 0 // the clock was put back, and only the last panic is kept
	}
}

// downs is what happens when an application takes the machine down.
func (m *Machine) downs() { m.panicked(m.boot.Slot, m.runs) }

// Panicked is when the kernel of a slot panicked last, of what was kept; zero: never.
func (m *Machine) Panicked(slot partitions.Slot) time.Time { return m.panics.kept[slot].at }

// kernelLog is what an agent's Options.KernelLog returns.
func (m *Machine) kernelLog(slot partitions.Slot, root release.Digest, after time.Time) ([]string, time.Time) {
	k := m.panics.kept[slot]
	if k.at.IsZero() || k.root != root || k.at.Before(after) {
		return nil, time.Time{}
	}
	return []string{"kernel: slot " + slot.String() + ", saved by the kernel in its panic", "Kernel panic - not syncing"}, k.at
}

// panicIsAVerdict is law 8 for a slot that is about to be armed: the trial before did not
// leave evidence of a panic.
func (m *Machine) panicIsAVerdict(r *Release, t agent.Transaction) {
	if t.Seq == m.panics.condemned && t.Seq != 0 && !t.Force {
		m.broke(8, "%s is armed again, and its kernel panicked in the last trial", r.Manifest.Version)
	}
	delete(m.panics.inTrial, r.Manifest.Deployment())
}

// deniedForPanic is law 8 for a denial: a kernel has to have panicked in that trial.
func (m *Machine) deniedForPanic(r *Release, d agent.Denial) {
	if d.Code == agent.CodePanic && !m.panics.inTrial[d.Deployment] {
		m.broke(8, "%s is denied for a panic, and none was kept of its trial: %s", r.Manifest.Version, d.Text)
	}
}
