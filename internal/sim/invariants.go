package sim

import (
	"bytes"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Law is one invariant of docs/DESIGN.md. Each is held by one function of this file, or
// says what holds it for a whole fleet.
type Law struct {
	Number int
	Func   string // the function of this package that holds it; "": it is about more than one host
	Text   string
}

// Laws lists all invariants, in their order.
func Laws() []Law {
	return []Law{
		{1, "alwaysBoots", "From every crash state the loader reaches a running system in at most tries+1 starts."},
		{2, "onlyVerifiedBits", "A slot that a loader can pick equals, bit for bit, a signed release, durably, before it is armed."},
		{3, "neverWriteWhatIsInUse", "The running slot is never written, the fallback only once the running one is committed, the idle one only when it durably cannot boot."},
		{4, "noDowngrade", "The committed version falls only by a recorded rollback, security epoch and metadata versions never."},
		{5, "onlyHealthyCommits", "A commit needs a passed verdict in this boot of this slot, or in the one whose commit a power cut interrupted."},
		{6, "applicationDataIsKept", "What an application wrote is in the generation that it wrote to, or lives on in one that began from it, unless it was dropped by hand or by the quota; a committed slot goes on with it. Attacked by one random history in five, by agent.TestApplicationsAndTheirDataSurviveEverySingleFault and agent.TestApplicationsFollowTheSlotsThroughEverySingleFault."},
		{7, "allOrNothing", "No application is started but those of the deployment that the running slot's pointer names, on the generation that it names, and if it reads the format of what is there. Attacked by the same histories and tests."},
		{8, "unhealthyNeverReturns", "What was left for a verdict or by hand is not armed again by itself, and only what failed is denied for failing."},
		{9, "stateIsNeverGuessed", "No rebuild of damaged state lowers a floor or forgets a trial, and no slot is armed before the journal durably says so."},
		{10, "bounded", "Files, bytes and entries of the state directory stay below fixed limits."},
		{11, "Idempotent", "Work that is done is not done again: a new process at rest changes nothing."},
		{12, "SecretsStay", "No private key reaches the host's state or the server's files."},
		{13, "Converges", "Once faults stop, the newest permitted release that was not refused runs."},
		{14, "ProgressesWhileThePowerFlaps", "An update completes if each boot lasts as long as one checkpoint."},
		{15, "rollbackEnds", "A trial is decided within its tries, and each of its boots within the deadline and the soak period; one of applications within as many boots."},
		{16, "QuietWhenIdle", "A poll that finds nothing new writes nothing."},
		{17, "", "No host is offered a halted release after the halt. Held by agent/policy.TestRolloutFollowsTheDirective."},
		{18, "", "Every host has one stable bucket. Held by release.TestWideningARolloutTakesNoHostOut."},
		{19, "", "Widening a rollout never moves a host out. Held by the same test."},
		{20, "", "A lost report never advances a rollout. Hosts report nothing; people advance rollouts."},
	}
}

// broke records that a law was broken.
func (m *Machine) broke(law int, format string, args ...any) {
	m.Break("law %d: "+format, append([]any{law}, args...)...)
}

// alwaysBoots is law 1: starts is how often the machine was started in vain.
func (m *Machine) alwaysBoots(starts int, err error) {
	switch {
	case err != nil:
		m.broke(1, "the loader starts nothing: %v", err)
	case starts > int(m.Options.Tries):
		m.broke(1, "no system is up after %d starts", starts)
	}
}

// somethingBoots is law 1 for a record that is about to be stored.
func (m *Machine) somethingBoots(next bootloader.State) {
	if _, ok := next.Next(); !ok {
		m.broke(1, "a record with which nothing boots: %+v", next)
	}
}

// onlyVerifiedBits is law 2 for a slot that the loader has picked.
func (m *Machine) onlyVerifiedBits(slot partitions.Slot) {
	if m.verified(slot) == nil && !m.rotten[slot] && !m.betrayed(slot) {
		m.broke(2, "the loader picked slot %s, which it describes as %+v and which holds %s", slot, m.loader.described(slot), m.Holds(slot))
	}
}

// verified returns the release that a slot holds and that the loader describes. Anything
// else is no system: the tree over the image does not match, and nothing comes up.
func (m *Machine) verified(slot partitions.Slot) *Release {
	r, d := m.Holds(slot), m.loader.described(slot)
	if r == nil || d == nil || d.Root != r.root() || d.Version.Compare(r.Manifest.Version) != 0 {
		return nil
	}
	return r
}

// betrayed reports whether a disk has lost what it had said to be durable, so that no
// software could have known better.
func (m *Machine) betrayed(slot partitions.Slot) bool {
	for _, d := range m.slots.disks[slot] {
		if d.betrayed {
			return true
		}
	}
	return false
}

// onlyVerifiedIsArmed is law 2 for a slot that is about to be armed: what it holds has
// to be there after a power cut.
func (m *Machine) onlyVerifiedIsArmed(slot partitions.Slot) *Release {
	for _, r := range m.Releases {
		if r.in(m.slots.disks[slot], m.Profile != Lying) {
			return r
		}
	}
	m.broke(2, "slot %s is armed and does not durably hold a published release", slot)
	return nil
}

// neverWriteWhatIsInUse is law 3 for a write to a slot.
func (m *Machine) neverWriteWhatIsInUse(slot partitions.Slot) {
	s := m.loader.peek()
	if m.Profile != Lying {
		s = m.loader.durable()
	}
	switch other := s.Slots[slot.Other()]; {
	case slot == m.boot.Slot:
		m.broke(3, "a write to slot %s, which runs", slot)
	case s.Slots[slot].Priority != 0:
		m.broke(3, "a write to slot %s, whose record %+v was not cleared", slot, s.Slots[slot])
	case !other.Successful || !other.Bootable():
		m.broke(3, "a write to slot %s while slot %s is no fallback: %+v", slot, slot.Other(), other)
	}
}

// fallbackIsKept is law 3 for a record that is about to be stored.
func (m *Machine) fallbackIsKept(old, next bootloader.State) {
	running, fallback := m.boot.Slot, m.boot.Slot.Other()
	if !next.Slots[running].Successful && old.Slots[fallback].Successful && !next.Slots[fallback].Successful {
		m.broke(3, "fallback slot %s is given up while slot %s is on trial", fallback, running)
	}
}

// noDowngrade is law 4 for a release that is about to be committed.
func (m *Machine) noDowngrade(r *Release) {
	v := r.Manifest.Version
	if v.Compare(m.committed) < 0 && !m.lower[v.String()] && m.Journal().Kind != agent.KindRollback {
		m.broke(4, "%s is committed after %s, and nobody went back", v, m.committed)
	}
}

// metadataNeverFalls is law 4 for the trust store.
func (m *Machine) metadataNeverFalls() {
	trust := m.State.subs["trust"]
	if trust == nil {
		return
	}
	for _, role := range [...]string{"root.json", "timestamp.json", "snapshot.json"} {
		v, known := m.MetadataVersions[string(trust.stable[role])]
		if !known {
			continue // damaged
		}
		if v < m.versions[role] {
			m.broke(4, "%s falls from version %d to %d", role, m.versions[role], v)
		}
		m.versions[role] = v
	}
}

// onlyHealthyCommits is law 5 for a record that is about to be stored.
func (m *Machine) onlyHealthyCommits(old, next bootloader.State) {
	for _, slot := range partitions.Slots {
		if !next.Slots[slot].Successful || old.Slots[slot].Successful {
			continue
		}
		switch {
		case slot != m.boot.Slot:
			m.broke(5, "slot %s is committed while slot %s runs", slot, m.boot.Slot)
		case m.decided == m.runs:
			// The other copy of the record says so already.
		case m.runs.Behaviour != Healthy || !m.passed:
			m.broke(5, "%s is committed; it is %s, its probe passed in this boot: %t", m.runs.Manifest.Version, m.runs.Behaviour, m.passed)
		case m.age-m.firstPass < Soak:
			m.broke(5, "%s is committed %s after its probe passed first, the soak period is %s", m.runs.Manifest.Version, m.age-m.firstPass, Soak)
		default:
			m.decided = m.runs
			m.noDowngrade(m.runs)
		}
	}
}

// unhealthyNeverReturns is law 8 for a release that is about to be armed.
func (m *Machine) unhealthyNeverReturns(r *Release, t agent.Transaction) {
	attempt, denied := m.denied[r.Manifest.Deployment()]
	if denied && r.Manifest.Attempt <= attempt && !t.Force && t.Kind != agent.KindRollback {
		m.broke(8, "%s is armed again, and was denied", r.Manifest.Version)
	}
}

// heldBack is law 13 the other way round: what an operator holds is not permitted.
func (m *Machine) heldBack(r *Release, t agent.Transaction) {
	h, whole := record[agent.Hold](m, m.State.view["hold.json"])
	if !whole || t.Force || t.Kind == agent.KindRollback {
		return
	}
	// One that was over before the clock was turned back was over when this was permitted.
	if m.holding(h) && h != m.lapsed {
		m.broke(13, "%s is armed, and updates are held until %s", r.Manifest.Version, h.Until)
	}
}

// holding reports whether a hold is not over, by the machine's clock.
func (m *Machine) holding(h agent.Hold) bool { return h.Until.IsZero() || m.now.Before(h.Until) }

// SetTime sets the clock, as World.SetTime does.
func (m *Machine) SetTime(t time.Time) {
	h, whole := record[agent.Hold](m, m.State.view["hold.json"])
	if whole && t.Before(m.now) && !m.holding(h) {
		m.lapsed = h
	}
	m.World.SetTime(t)
}

// leftOnRecord is law 8 for a trial that the running system ends: why it does stands in
// the journal before the boot record turns back, or it would look like a lost trial.
func (m *Machine) leftOnRecord(old, next bootloader.State) {
	slot := m.boot.Slot
	ends := old.Slots[slot].Priority > 0 && next.Slots[slot].Priority == 0
	if ends && m.calm() && !m.failed && m.Journal().Phase != agent.Reverting {
		m.broke(8, "the trial of slot %s is ended while the journal says %s", slot, m.Journal().Phase)
	}
}

// deniedForCause is law 8 for a new denial.
func (m *Machine) deniedForCause(d agent.Denial) {
	for _, r := range m.Releases {
		if r.Manifest.Deployment() != d.Deployment {
			continue
		}
		m.deniedForPanic(r, d)
		if r.Behaviour == Healthy && (d.Code == agent.CodeUnhealthy || d.Code == agent.CodeUnbootable || d.Code == agent.CodePanic) && !m.rotten[0] && !m.rotten[1] {
			m.broke(8, "%s is healthy and is denied as %s: %s", r.Manifest.Version, d.Code, d.Text)
		}
		return
	}
}

// stateIsNeverGuessed is law 9: whatever was rebuilt, the floors stand.
func (m *Machine) stateIsNeverGuessed(s bootloader.State) {
	if s.Epoch < m.epoch {
		m.broke(9, "the epoch in the boot record is %d, and %d was committed", s.Epoch, m.epoch)
	}
}

// Idempotent is law 11: a machine at rest is started anew, and nothing happens.
func (m *Machine) Idempotent() {
	m.Restart(Rebooted)
	m.untouchedBy(11, "a new boot at rest")
}

// QuietWhenIdle is law 16: a machine at rest polls, and nothing is written.
func (m *Machine) QuietWhenIdle() { m.untouchedBy(16, "a poll that finds nothing new") }

func (m *Machine) untouchedBy(law int, what string) {
	effects := 0
	m.Process(func(a *agent.Agent) {
		effects = m.Effects()
		started := m.Apps.started()
		Once(a)
		started = m.Apps.started() - started // that is done in each boot
		effects = m.Effects() - effects - started
	})
	if effects > 0 {
		m.broke(law, "%s makes %d changes", what, effects)
	}
}

// SecretsStay is law 12: neither the host's state nor what a server hands out holds a
// private key.
func (m *Machine) SecretsStay() {
	for name, b := range m.State.view {
		if holdsKey(b) {
			m.broke(12, "%s holds a private key", name)
		}
	}
	for name, b := range m.Net.files {
		if m.Net.Searched.holdsKey(b) {
			m.broke(12, "%s holds a private key", name)
		}
	}
}

func holdsKey(b []byte) bool { return bytes.Contains(b, []byte("PRIVATE KEY")) }

// Searched remembers which of the files that servers hand out hold no private key: once
// served, none of them changes. Many worlds may share it; a nil pointer remembers nothing.
type Searched struct {
	mu    sync.Mutex
	clean map[*byte]int // length of the file that begins there
}

func (s *Searched) holdsKey(b []byte) bool {
	if s == nil || len(b) == 0 {
		return holdsKey(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clean[&b[0]] == len(b) {
		return false
	}
	if holdsKey(b) {
		return true
	}
	if s.clean == nil {
		s.clean = map[*byte]int{}
	}
	s.clean[&b[0]] = len(b)
	return false
}

// Converges is law 13: faults have stopped, and want is what should run.
func (m *Machine) Converges(want *Release) {
	if got := m.Running(); got != want {
		m.broke(13, "%s runs in the end, want %s", got, want)
	}
}

// ProgressesWhileThePowerFlaps is law 14: the power fails after every n effects, which
// is enough for one checkpoint, and want runs in the end.
func (m *Machine) ProgressesWhileThePowerFlaps(n, boots int, want *Release) {
	for range boots {
		m.CutAt(n, PowerCut)
		m.Process(Once)
		m.Calm()
		m.Pass(25 * time.Hour) // the longest that a lost trial waits
		if m.Running() == want && m.Record().Slots[m.boot.Slot].Successful {
			return
		}
	}
	m.broke(14, "%s does not run after %d boots of %d effects each", want, boots, n)
}

// trialIsCounted is law 15 for a start of a slot on trial.
func (m *Machine) trialIsCounted(slot partitions.Slot) {
	if m.trials++; m.trials > int(m.Options.Tries) {
		m.broke(15, "slot %s is on trial for the %d. time, want at most %d", slot, m.trials, m.Options.Tries)
	}
}

// rollbackEnds is law 15 for a trial whose agent was left in peace: it was decided.
func (m *Machine) rollbackEnds() {
	up := m.age - m.since
	if up > Deadline+2*Soak && !m.loader.peek().Slots[m.boot.Slot].Successful && m.calm() {
		m.broke(15, "slot %s has been on trial for %s", m.boot.Slot, up)
	}
}

// calm reports whether the state directory is in order.
func (m *Machine) calm() bool { return !m.State.Full && !m.State.ReadOnly }
