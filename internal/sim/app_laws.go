package sim

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// allOrNothing is law 7 for a unit that is about to be started.
func (m *Machine) allOrNothing(u workloads.Unit) {
	file := "slot-" + m.boot.Slot.String() + ".json"
	p, whole := record[agent.Pointer](m, m.State.stable[file])
	if !whole {
		// It was spoilt. What is made of the rest does not last on a full disk, and comes out
		// the same in the next boot.
		p, _ = record[agent.Pointer](m, m.State.view[file])
	}
	d, whole := record[agent.Deployment](m, m.State.stable[fmt.Sprintf("deployment-%d.json", p.Current)])
	if !whole {
		d, _ = record[agent.Deployment](m, m.State.stable[fmt.Sprintf("deployment-%d.copy.json", p.Current)])
	}
	digest, _ := u.Manifest.Digest() // Start has worked it out before
	if w, has := d.App(u.Name()); !has || w.App != digest || w.Generation != u.Generation {
		m.broke(7, "app %s %s is started on %s; the pointer of slot %s says %+v", u.Name(), u.Manifest.Version, u.Generation, m.boot.Slot, d.Workloads)
	}
}

// ran is what an application was started on last.
type ran struct {
	slot       partitions.Slot
	app        release.Digest
	generation string
}

// dataIsGoneOnWith is law 6 for a unit that is about to be started: a committed slot starts the
// version that ran in it last on what that one wrote. Where one is tried, or an operator goes
// back, data may be that of before.
func (m *Machine) dataIsGoneOnWith(u workloads.Unit) {
	digest, _ := u.Manifest.Digest() // Start has worked it out before
	last, is := m.ran[u.Name()], ran{m.boot.Slot, digest, u.Generation}
	m.ran[u.Name()] = is
	if last.slot != is.slot || last.app != is.app || last.generation == is.generation || !m.Record().Slots[is.slot].Successful {
		return
	}
	if _, trying := trialIn(m, m.State.subs["apps"].view); trying {
		return
	}
	wrote, now := m.Apps.data[u.Name()][last.generation], m.Apps.data[u.Name()][is.generation]
	if wrote != nil && !bytes.HasPrefix(now.content, wrote.content) {
		m.broke(6, "app %s %s ran on %s, and is started on %s, which lacks what it wrote", u.Name(), u.Manifest.Version, last.generation, is.generation)
	}
}

// readsItsData is law 7 for a unit that is about to be started or tried: a version reads what
// was written to its data.
func (m *Machine) readsItsData(u workloads.Unit) {
	v, reads := m.Apps.data[u.Name()][u.Generation], u.Manifest.Update.DataReads
	if v != nil && v.format > reads {
		m.broke(7, "app %s %s, which reads data up to format %d, is started on %s, which holds format %d", u.Name(), u.Manifest.Version, reads, u.Generation, v.format)
	}
}

// appTrial counts the boots in which the new set of a transaction was started.
type appTrial struct {
	seq   uint64
	boots int
	last  int // the start of the machine that was counted last
}

// appTrialsEnd is law 15 for a unit that is about to be started or tried: of a version that
// is on trial, in at most as many boots as the OS has tries.
func (m *Machine) appTrialsEnd(u workloads.Unit) {
	apps := m.State.subs["apps"]
	if apps == nil {
		return
	}
	t, trying := trialIn(m, apps.stable)
	if !trying {
		return
	}
	// Its end may have been written, and not have come to the disk: what is started then was
	// decided, as everybody reads.
	if _, whole := record[agent.AppTransaction](m, apps.view["journal.json"]); whole {
		if is, trying := trialIn(m, apps.view); !trying || is.Seq != t.Seq {
			return
		}
	}
	digest, _ := u.Manifest.Digest() // Start has worked it out before
	from, _ := record[agent.Deployment](m, m.State.stable[fmt.Sprintf("deployment-%d.json", t.From)])
	if w, had := from.App(u.Name()); had && w.App == digest {
		return // the old set
	}
	m.failedNeverReturns(u, t)
	if m.appTrial.seq != t.Seq {
		m.appTrial = appTrial{seq: t.Seq}
	}
	if m.appTrial.last != m.Starts {
		m.appTrial.last = m.Starts
		m.appTrial.boots++
	}
	if m.appTrial.boots > int(m.Options.Tries) {
		m.broke(15, "app %s %s is started in boot %d of its trial, want at most %d", u.Name(), u.Manifest.Version, m.appTrial.boots, m.Options.Tries)
	}
}

// trialIn returns the transaction of applications that the files tell of, and whether its new
// set is on trial.
func trialIn(m *Machine, files map[string][]byte) (agent.AppTransaction, bool) {
	t, whole := record[agent.AppTransaction](m, files["journal.json"])
	return t, whole && (t.Phase == agent.AppTrial || t.Phase == agent.AppSwitching)
}

// failures are the versions of applications that failed their trial on this machine, as its
// history tells, by name and version.
type failures struct {
	seen   map[uint64]bool // transactions
	failed map[string]bool
}

// noteFailures takes into account what the history tells that is new.
func (m *Machine) noteFailures() {
	b := m.State.stable["history.json"]
	if m.Apps == nil || !m.fresh("history.json", b) {
		return
	}
	var r struct {
		Entries []agent.HistoryEntry `json:"entries"`
	}
	if !Record(b, &r) {
		return
	}
	for _, e := range r.Entries {
		if e.App == "" || e.Result != "rolled-back" || e.Code != agent.CodeUnhealthy || m.failures.seen[e.Seq] {
			continue
		}
		m.failures.seen[e.Seq], m.failures.failed[e.App+" "+e.To.String()] = true, true
	}
}

// failedNeverReturns is law 8 for a unit that is about to be tried.
func (m *Machine) failedNeverReturns(u workloads.Unit, t agent.AppTransaction) {
	if name := u.Name() + " " + u.Manifest.Version.String(); m.failures.failed[name] && !t.Force {
		m.broke(8, "app %s is tried again, and failed its trial", name)
	}
}

// applicationDataIsKept is law 6 for what a process has left behind.
func (m *Machine) applicationDataIsKept() {
	if m.Apps == nil {
		return
	}
	p := m.Apps
	now := map[string]string{}
	for app, list := range p.data {
		for name, v := range list {
			now[app+"/"+name] = string(v.content)
		}
	}
	for name, was := range p.kept {
		app, _, _ := strings.Cut(name, "/")
		is, there := now[name]
		switch {
		case there && !strings.HasPrefix(is, was):
			m.broke(6, "data %s held %.80q and holds %.80q", name, was, is)
		case !there && !livesOn(app+"/", was, now) && len(p.data[app]) < agent.DefaultKeep:
			// Beyond the quota, what nothing runs on is dropped.
			m.broke(6, "data %s is gone, and with it %.80q", name, was)
		}
	}
	p.kept = now
}

// livesOn reports whether a generation of an application begins with what another held.
func livesOn(app, was string, now map[string]string) bool {
	for name, is := range now {
		if strings.HasPrefix(name, app) && strings.HasPrefix(is, was) {
			return true
		}
	}
	return false
}
