package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// slowQuestions are what asks a server.
var slowQuestions = []agent.Request{
	{Verb: agent.VerbCheck},
	{Verb: agent.VerbUpdate},
	{Verb: agent.VerbWhy},
	{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}},
}

// Somebody asks before the daemon's first round in a trial, of a server that lets everybody
// wait for ten minutes. What is healthy is committed all the same.
func TestATrialIsDecidedBeforeAServerIsAsked(t *testing.T) {
	stalls := func(int, string) sim.NetFault { return sim.Stall }
	ask := func(t *testing.T, m *sim.Machine, r agent.Request) {
		t.Helper()
		m.Net.Fault = stalls
		m.Process(func(a *agent.Agent) {
			if _, err := a.Do(context.Background(), r, nil); agent.CodeOf(err) != agent.CodeBusy {
				t.Errorf("got %v, want %s", err, agent.CodeBusy)
			}
			m.Net.Fault = nil
			sim.Once(a)
		})
	}
	// cut is a machine whose power went before the n-th change of an update of its application.
	cut := func(t *testing.T, n int) *sim.Machine {
		t.Helper()
		m := appMachine(t, 1, appV1)
		m.Net.Serve(apps().files[appV2])
		m.CutAt(n, sim.PowerCut)
		if end := m.Process(sim.Once); end != sim.PowerCut {
			t.Fatalf("no cut was in the trial: %v", end)
		}
		return m
	}
	n := 1
	for !strings.Contains(tailOf(cut(t, n)), "start app web/2") {
		n++
	}
	for _, r := range slowQuestions {
		name := string(r.Verb)
		t.Run("of the OS/"+name, func(t *testing.T) {
			m := appMachine(t, 1, appV1)
			m.Net.Serve(apps().files[appOS2])
			if end := m.Process(sim.Once); end != sim.Rebooted {
				t.Fatalf("no trial was begun: %v\n%s", end, tailOf(m))
			}
			ask(t, m, r)
			if got := m.Running().Manifest.Version.String(); got != "2" || m.Pending() {
				t.Errorf("release %s runs, want 2, committed\n%s", got, tailOf(m))
			}
		})
		t.Run("of an application/"+name, func(t *testing.T) {
			m := cut(t, n)
			ask(t, m, r)
			wantApp(t, m, "2")
		})
	}
}
