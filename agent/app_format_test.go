package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// By force a rollback goes on where an application would not read the data that it is to keep:
// then that one goes back to its own.
func TestARollbackByForceStartsNothingOnDataItDoesNotRead(t *testing.T) {
	m := osStories[1].begin(t, 1)
	rollback := func(force bool) (end sim.End, err error) {
		end = m.Process(func(a *agent.Agent) {
			_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback, Reason: "test", Force: force}, nil)
		})
		return end, err
	}
	if end, err := rollback(false); end != sim.Returned || agent.CodeOf(err) != agent.CodeDataFormat {
		t.Errorf("without force: got %v, %v", end, err)
	}
	if end, err := rollback(true); end != sim.Rebooted || err != nil {
		t.Fatalf("by force: got %v, %v", end, err)
	}
	osStories[1].settle(m)
	wantApp(t, m, "1")
	if _, b := m.Apps.Running("web"); strings.Contains(string(b), "2") {
		t.Errorf("web 1, which reads what it writes alone, runs on %q", b)
	}
	kept := false
	for _, b := range m.Apps.Data("web") {
		kept = kept || strings.Contains(b, "2")
	}
	if !kept {
		t.Errorf("what web 2 wrote is gone: %q", m.Apps.Data("web"))
	}
	if broken := m.Broken(); len(broken) > 0 {
		t.Error(broken[0])
	}
}

// A committed slot dies, the operator goes on with the data of then, the slot comes back and goes
// on with that, and dies again: what its version has written the older one is not started on.
func TestWhatAdoptsDataIsWhatWroteToIt(t *testing.T) {
	m := osStories[0].begin(t, 1)
	newer := m.Running()
	m.Net.Serve(osStories[0].world().files[osFirst]) // the release was withdrawn
	m.Restart(sim.Rebooted)
	m.Process(sim.Once)
	if m.Running() == newer {
		t.Fatal("it did not fall back")
	}
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		app := func(do agent.AppRequest) agent.Result {
			verb := agent.VerbApp
			if do.Do == agent.AppWhy {
				verb = agent.VerbApps
			}
			r, err := a.Do(context.Background(), agent.Request{Verb: verb, App: &do}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		restored := false
		for _, reason := range app(agent.AppRequest{Do: agent.AppWhy, Name: "web"}).Apps.Apps[0].Reasons {
			if _, advice, ok := strings.Cut(reason.Text, "twinkeel app data restore web "); ok {
				app(agent.AppRequest{Do: agent.AppDataRestore, Name: "web", Generation: advice})
				restored = true
			}
		}
		if !restored {
			t.Fatal("web is not held")
		}
		sim.Once(a)
	})
	wantApp(t, m, "1")
	newer.Behaviour = sim.Healthy
	m.Restart(sim.Rebooted)
	m.Process(sim.Once)
	wantApp(t, m, "2")
	newer.Behaviour = sim.Unloadable
	m.Restart(sim.Rebooted)
	m.Process(sim.Once)
	if v, b := m.Apps.Running("web"); v == "1" && strings.Contains(string(b), "2") {
		t.Errorf("web 1, which reads what it writes alone, runs on %q", b)
	}
}
