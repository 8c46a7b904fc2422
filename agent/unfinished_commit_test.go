package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// Each test of this file is a release with applications that the boot record calls committed
// and the state directory does not yet.

var dbCommits = osStory{name: "commit", world: dbAlone, reached: osFirst, stage: osSecond, os: "3"}

// unfinished ends each effect of a commit with end, and hands the machine to then if the commit
// was not finished.
func (s osStory) unfinished(t *testing.T, end sim.End, prepare, then func(m *sim.Machine)) {
	t.Helper()
	matter := 0
	for n := 1; ; n++ {
		m := s.begin(t, 1)
		if prepare != nil {
			prepare(m)
		}
		m.CutAt(n, end)
		ended := false
		for range 8 {
			if ended = m.Process(sim.Once) == end; ended {
				break
			}
			m.Pass(2 * time.Minute)
		}
		if !ended {
			break
		}
		if j := m.Journal(); j.Phase != agent.Armed || !m.Record().Slots[j.Slot].Successful {
			continue
		}
		matter++
		then(m)
		if broken := m.Broken(); len(broken) > 0 {
			t.Fatalf("before effect %d: %s", n, broken[0])
		}
	}
	if matter == 0 {
		t.Error("no commit was left unfinished")
	}
}

// goesOn reports whether an application runs on what it ran on, and what was written since.
func goesOn(t *testing.T, m *sim.Machine, name string, was []byte) {
	t.Helper()
	if v, b := m.Apps.Running(name); !strings.HasPrefix(string(b), string(was)) {
		t.Errorf("%s %s runs on %q, ran on %q", name, v, b, was)
	}
}

func TestACommitWhoseJournalIsLostKeepsItsData(t *testing.T) {
	dbCommits.unfinished(t, sim.Killed, nil, func(m *sim.Machine) {
		_, was := m.Apps.Running("db")
		slot := m.Journal().Slot
		m.State.Damage("journal.json", []byte("{"))
		for range 4 {
			m.Process(sim.Once)
			m.Pass(2 * time.Hour)
		}
		goesOn(t, m, "db", was)
		var p agent.Pointer
		(&history{m: m}).state("slot-"+slot.String()+".json", &p)
		if !p.Committed {
			t.Errorf("pointer: got %+v, want it committed", p)
		}
	})
}

// unreadable is a directory of which one file lies in a sector that cannot be read.
type unreadable struct {
	durable.Dir
	name string
	bad  *bool
}

func (u unreadable) Read(name string) ([]byte, error) {
	if name == u.name && *u.bad {
		return nil, errors.New("input/output error")
	}
	return u.Dir.Read(name)
}

func TestACommitWhoseJournalCannotBeReadKeepsItsData(t *testing.T) {
	var bad *bool
	prepare := func(m *sim.Machine) {
		bad = new(bool)
		m.Options.State = unreadable{m.State, "journal.json", bad}
	}
	dbCommits.unfinished(t, sim.Killed, prepare, func(m *sim.Machine) {
		_, was := m.Apps.Running("db")
		*bad = true
		m.Process(func(a *agent.Agent) { _ = a.Once(context.Background()) })
		goesOn(t, m, "db", was)
		*bad = false
		for range 4 {
			m.Process(sim.Once)
			m.Pass(2 * time.Hour)
		}
		goesOn(t, m, "db", was)
	})
}

// The first version of web reads nothing that the second one writes. Once the commit is found
// unfinished, the slot dies.
func TestAFallbackFromACommitThatLostItsJournalStartsNothingOnDataItDoesNotRead(t *testing.T) {
	s := osStory{world: bothApps, reached: osFirst, stage: osSecond, os: bothApps().os[osSecond].Manifest.Version.String()}
	s.unfinished(t, sim.PowerCut, nil, func(m *sim.Machine) {
		m.State.Damage("journal.json", []byte("{"))
		for range 4 {
			m.Process(sim.Once)
			m.Pass(2 * time.Hour)
		}
		m.Running().Behaviour = sim.Unloadable
		m.Restart(sim.Rebooted)
		for range 3 {
			m.Process(sim.Once)
		}
		if v, b := m.Apps.Running("web"); v == "1" && strings.Contains(string(b), "2") {
			t.Errorf("web %s runs on %q", v, b)
		}
	})
}

// The directory of live.json cannot be synced, the commit is finished all the same, and then
// the power fails.
func TestDataThatACommitCouldNotMakeDurableIsCommittedAgain(t *testing.T) {
	m := dbCommits.begin(t, 1)
	start := len(m.Trace())
	dbCommits.settle(m)
	calls, sync, renamed := 0, 0, false
	for _, line := range m.Trace()[start:] {
		if strings.Contains(line, " starts with ") {
			continue
		}
		calls++
		if renamed && strings.Contains(line, "sync directory state/apps") {
			sync = calls
		}
		renamed = strings.Contains(line, "rename state/apps/live.json")
	}
	if sync == 0 {
		t.Fatalf("live.json was not written\n%s", tailOf(m))
	}
	for seed := range uint64(6) {
		m := dbCommits.begin(t, seed)
		m.Fate = sim.Lost
		m.FailAt(sync)
		for range 4 {
			m.Process(sim.Once)
		}
		_, was := m.Apps.Running("db")
		m.Restart(sim.PowerCut)
		m.Process(sim.Once)
		goesOn(t, m, "db", was)
	}
}
