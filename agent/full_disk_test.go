package agent_test

import (
	"context"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// A request that cannot write refuses none of those that come after it: some only ask, and one
// makes room.
func TestAFullDiskDoesNotRefuseWhatMakesRoom(t *testing.T) {
	m := appMachine(t, 1, appV1, appV2)
	m.Net.Serve(apps().files[appBad])
	m.Process(sim.Once)
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		do := func(r agent.Request) (agent.Result, error) { return a.Do(context.Background(), r, nil) }
		list, err := do(agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppDataList}})
		if err != nil {
			t.Fatal(err)
		}
		status, err := do(agent.Request{Verb: agent.VerbStatus})
		if err != nil {
			t.Fatal(err)
		}
		m.State.Full = true
		if _, err := do(agent.Request{Verb: agent.VerbUndeny, Digest: status.Status.Denied[0].Deployment}); agent.CodeOf(err) != agent.CodeState {
			t.Errorf("undeny on a full disk: got %v", err)
		}
		for _, verb := range []agent.Verb{agent.VerbWhy, agent.VerbVerify, agent.VerbCheck} {
			if _, err := do(agent.Request{Verb: verb}); agent.CodeOf(err) == agent.CodeState {
				t.Errorf("%s: %v", verb, err)
			}
		}
		dropped := 0
		for _, p := range list.Apps.Data {
			if p.Kept {
				continue
			}
			_, err := do(agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppDataDrop, Name: p.App, Generation: p.Generation}})
			if _, there := m.Apps.Data(p.App)[p.Generation]; there {
				t.Errorf("drop %s: %v, and it is still there", p.Generation, err)
			}
			dropped++
		}
		if dropped == 0 {
			t.Error("there was nothing to drop")
		}
	})
}
