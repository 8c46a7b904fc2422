package sim

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

// account is what the laws remember of a history.
type account struct {
	committed release.Version           // the newest one ever committed, less what was lowered
	lower     map[string]bool           // versions that an operator or a directive may go down to
	epoch     uint64                    // the highest one ever committed
	denied    map[release.Digest]uint64 // deployments, with the attempt up to which they are denied
	pardoned  map[release.Digest]bool   // by an operator, since they were denied last
	forgiven  map[agent.Denial]bool     // entries that were there when it did so; they may linger
	last      *agent.Denial             // the newest one that the boot record has to hold, too
	trials    int                       // starts of the slot on trial since it was armed
	decided   *Release                  // a trial passed, and a record that commits it was begun
	rotten    [2]bool                   // slots whose medium was spoilt
	spoilt    bool                      // one copy of the boot record was, and was not written since
	versions  map[string]int64          // of metadata files, by role, as last seen
	seen      map[string]*byte          // files of the state directory that were looked at
	records   map[*byte]any             // what files of the state directory say, a *read of what they hold
	appTrial  appTrial                  // of applications, the newest one
	failures  failures
	ran       map[string]ran // what runs of applications, by name
}

// afterwards holds the laws against what a process has left behind, whatever its end.
func (m *Machine) afterwards() {
	m.remember()
	m.noteFailures()
	m.applicationDataIsKept()
	m.metadataNeverFalls()
	m.bounded()
	m.stateIsNeverGuessed(m.loader.peek())
	if m.runs != nil && m.loader.durable().Slots[m.boot.Slot].Successful {
		m.committed = m.runs.Manifest.Version
		m.epoch = max(m.epoch, m.runs.Manifest.Epoch)
		m.proven(m.runs.Manifest.Deployment())
	}
}

// proven takes back the denial of a deployment that was committed after all: somebody
// went back to it, or installed it by force.
func (m *Machine) proven(d release.Digest) {
	if _, denied := m.denied[d]; !denied {
		return
	}
	delete(m.denied, d)
	m.pardoned[d] = true
	if m.last != nil && m.last.Deployment == d {
		m.last = nil
	}
}

// remember takes into account what was denied since the last look.
func (m *Machine) remember() {
	if b := m.State.stable["denials.json"]; m.fresh("denials.json", b) {
		for _, d := range m.denialsIn(b) {
			if m.forgiven[d] {
				continue
			}
			if _, known := m.denied[d.Deployment]; !known {
				m.deniedForCause(d)
				if d.Code != agent.CodeTrialLost && d.Code != agent.CodeDenied {
					m.last = &d
				}
			}
			m.deny(d.Deployment, d.Attempt)
		}
	}
	if b := m.State.stable["journal.json"]; m.fresh("journal.json", b) && bytes.Contains(b, []byte(agent.Reverting)) {
		if t, whole := record[agent.Transaction](m, b); whole && t.Phase == agent.Reverting && t.Verdict != nil {
			// The verdict stands from here on, wherever it is written down next.
			if r := m.Holds(t.Slot); r != nil {
				m.deny(r.Manifest.Deployment(), r.Manifest.Attempt)
			}
		}
	}
	if s := m.loader.durable(); !s.Denied.IsZero() && !m.pardoned[s.Denied] {
		m.deny(s.Denied, s.DeniedAttempt)
	}
}

// denialRecord is what denials.json holds.
type denialRecord struct {
	Denials []agent.Denial `json:"denials"`
}

// denialsIn reads denials.json.
func (m *Machine) denialsIn(b []byte) []agent.Denial {
	r, whole := record[denialRecord](m, b)
	if !whole {
		return nil
	}
	return r.Denials
}

// deny takes a denial into account.
func (m *Machine) deny(d release.Digest, attempt uint64) {
	m.denied[d] = max(attempt, m.denied[d])
	delete(m.pardoned, d)
}

// fresh reports whether a file's content was not looked at yet.
func (m *Machine) fresh(name string, b []byte) bool {
	if len(b) == 0 || m.seen[name] == &b[0] {
		return false
	}
	m.seen[name] = &b[0]
	return true
}

// Allow takes back every denial in the account, as an operator's undeny does.
func (m *Machine) Allow() {
	for d := range m.denied {
		m.pardoned[d] = true
	}
	if s := m.loader.durable(); !s.Denied.IsZero() {
		m.pardoned[s.Denied] = true
	}
	for _, d := range m.denialsIn(m.State.stable["denials.json"]) {
		m.forgiven[d] = true
	}
	clear(m.denied)
	clear(m.failures.failed)
	m.last = nil
}

// Forget leaves in the account what damage to a file of the state directory leaves: all of
// what is kept twice, and of a verdict that only the journal knew nothing.
func (m *Machine) Forget(file string) {
	if file != "journal.json" {
		return
	}
	clear(m.denied)
	for _, d := range m.denialsIn(m.State.stable["denials.json"]) {
		m.deny(d.Deployment, d.Attempt)
	}
	clear(m.seen)
	clear(m.failures.failed)
	m.panics.condemned = 0 // it told which trial the panic was of
	if m.last != nil {
		m.deny(m.last.Deployment, m.last.Attempt)
	}
	m.remember()
}

// Lower says that somebody may go back to a version.
func (m *Machine) Lower(v release.Version) { m.lower[v.String()] = true }

// Distrust forgets the metadata versions that the host has seen, as a reset of trust does.
func (m *Machine) Distrust() { clear(m.versions) }

// Record reads a record of the state directory into v and reports whether it is whole.
func Record(b []byte, v any) bool {
	var e struct {
		Format int             `json:"format"`
		SHA256 release.Digest  `json:"sha256"`
		Body   json.RawMessage `json:"body"`
	}
	if json.Unmarshal(b, &e) != nil || release.DigestOf(fmt.Appendf(nil, "%d\n%s", e.Format, e.Body)) != e.SHA256 {
		return false
	}
	return json.Unmarshal(e.Body, v) == nil
}

// read is what a file was read to.
type read[T any] struct {
	says  T // not to be changed
	whole bool
}

// record is Record of a file of the machine's state directory. Files that were written never
// change, so each is read once.
func record[T any](m *Machine, b []byte) (T, bool) {
	if len(b) == 0 {
		var none T
		return none, false
	}
	r, known := m.records[&b[0]].(*read[T])
	if !known {
		r = &read[T]{}
		r.whole = Record(b, &r.says)
		m.records[&b[0]] = r
	}
	return r.says, r.whole
}

// Journal returns the transaction that the journal tells of.
func (m *Machine) Journal() agent.Transaction {
	t, whole := record[agent.Transaction](m, m.State.view["journal.json"])
	if !whole {
		return agent.Transaction{Phase: agent.Idle}
	}
	if t.Phase == "" {
		t.Phase = agent.Idle
	}
	return t
}

// Denied reports whether the host refuses a release, and why.
func (m *Machine) Denied(r *Release) (code string, denied bool) {
	for _, d := range m.denialsIn(m.State.view["denials.json"]) {
		if d.Deployment == r.Manifest.Deployment() && r.Manifest.Attempt <= d.Attempt {
			return d.Code, true
		}
	}
	return "", false
}

// Denials lists the deployments that the host refuses.
func (m *Machine) Denials() []release.Digest {
	var all []release.Digest
	for _, d := range m.denialsIn(m.State.view["denials.json"]) {
		all = append(all, d.Deployment)
	}
	return all
}

// LowerToOther says that an operator may go back to whatever the other slot holds.
func (m *Machine) LowerToOther() {
	if r := m.Holds(m.boot.Slot.Other()); r != nil {
		m.Lower(r.Manifest.Version)
	}
}
