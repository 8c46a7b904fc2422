package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// ordersInATrial are what would change an application or start one on a copy of its data.
var ordersInATrial = map[string]order{
	"update by force": func(*agent.Agent) agent.AppRequest {
		return agent.AppRequest{Do: agent.AppUpdate, Name: "web"}
	},
	"rollback": func(*agent.Agent) agent.AppRequest {
		return agent.AppRequest{Do: agent.AppRollback, Name: "web", Data: "restore"}
	},
	"data restore": func(a *agent.Agent) agent.AppRequest {
		return agent.AppRequest{Do: agent.AppDataRestore, Name: "web", Generation: parked(a)}
	},
	"rehearsal": orderTo(agent.AppRehearse),
}

// trialAhead is a machine that runs web 2 after 1, is offered web 3, and has a release of
// the OS staged or armed.
func trialAhead(t *testing.T, phase agent.Phase) *sim.Machine {
	t.Helper()
	m := appMachine(t, 1, appV1, appV2)
	wantApp(t, m, "2")
	m.Net.Serve(apps().files[appOS2])
	if phase == agent.Staged {
		// A trial that was lost waits before it is armed again.
		m.Interrupt = func(_ *sim.Release, trial bool) bool { return trial }
		for range 6 {
			m.Process(sim.Once)
		}
	} else {
		m.Process(func(a *agent.Agent) {
			if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbUpdate, NoReboot: true}, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got := m.Journal().Phase; got != phase {
		t.Fatalf("the transaction of the OS is %s, want %s\n%s", got, phase, tailOf(m))
	}
	return m
}

// The applications of a trial are chosen when it is armed: nobody changes what they were
// chosen from.
func TestAnApplicationIsNotChangedWhileATrialOfTheOSIsAhead(t *testing.T) {
	for _, phase := range []agent.Phase{agent.Staged, agent.Armed} {
		m := trialAhead(t, phase)
		for name, order := range ordersInATrial {
			before := m.Apps.Data("web")
			m.Process(func(a *agent.Agent) {
				r := order(a)
				_, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &r, Force: true}, nil)
				if agent.CodeOf(err) != agent.CodeBusy || !strings.Contains(err.Error(), "os-trial") {
					t.Errorf("%s, %s: got %v, want %s and os-trial", phase, name, err, agent.CodeBusy)
				}
			})
			wantApp(t, m, "2")
			if now := m.Apps.Data("web"); len(now) != len(before) || m.Journal().Phase != phase {
				t.Errorf("%s, %s: got generations %v of %v, in phase %s", phase, name, now, before, m.Journal().Phase)
			}
		}
	}
}
