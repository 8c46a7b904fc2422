package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// An application does not wait at its start for what this process knows already, and a
// changed file is never started: the world says so, too (law 2).
func TestAnImageIsReadAgainOnlyWhenItsFileHasChanged(t *testing.T) {
	m := appMachine(t, 1, appV1)
	root := apps().apps[appV1].Manifest.Image.Root
	m.Process(func(a *agent.Agent) {
		restart := func() (reads int, err error) {
			before := len(m.Trace())
			_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRestart, Name: "web"}}, nil)
			for _, line := range m.Trace()[before:] {
				if strings.Contains(line, "read image "+root.Short()) {
					reads++
				}
			}
			return reads, err
		}
		if n, err := restart(); n == 0 || err != nil {
			t.Errorf("first start of a new process: got %d reads, %v, want some", n, err)
		}
		if n, err := restart(); n != 0 || err != nil {
			t.Errorf("second start: got %d reads, %v, want none", n, err)
		}
		m.Apps.Image(root).Rot(5000)
		if n, err := restart(); n == 0 || agent.CodeOf(err) != agent.CodeSlot {
			t.Errorf("start of a changed file: got %d reads, %v, want code %s", n, err, agent.CodeSlot)
		}
	})
	m.Process(sim.Once) // it was fetched again
	wantApp(t, m, "1")
}
