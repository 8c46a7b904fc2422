package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

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
