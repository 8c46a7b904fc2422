package agent_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

func rehearse(m *sim.Machine, name string) (text string, err error) {
	m.Process(func(a *agent.Agent) {
		var r agent.Result
		r, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRehearse, Name: name}}, nil)
		if err == nil {
			text = r.Outcome.Text
		}
	})
	return text, err
}

func TestARehearsalJudgesAVersionOnACopyAndChangesNothing(t *testing.T) {
	for stage, want := range map[int]string{appV2: "", appBad: agent.CodeUnhealthy, appV1: agent.CodeCurrent} {
		t.Run(fmt.Sprint("stage ", stage), func(t *testing.T) {
			m := appMachine(t, 1, appV1)
			before := m.Apps.Data("web")
			m.Net.Serve(apps().files[stage])
			text, err := rehearse(m, "web")
			if agent.CodeOf(err) != want || want == "" && (err != nil || !strings.Contains(text, "web 2 is healthy on a copy")) {
				t.Fatalf("got %q, %v, want code %q", text, err, want)
			}
			wantApp(t, m, "1")
			// What runs may have written on; of the rehearsal nothing is left.
			now := m.Apps.Data("web")
			for g, content := range now {
				if !strings.HasPrefix(content, before[g]) || strings.ContainsAny(content, "23") {
					t.Errorf("generation %s: got %q after %q", g, content, before[g])
				}
			}
			if len(now) != len(before) || m.Apps.Trial("web") != "" {
				t.Errorf("left: generations %v of %v, trial %q", maps.Keys(now), maps.Keys(before), m.Apps.Trial("web"))
			}
			if got := m.Apps.Served("web"); len(got) != 1 || got[0] != "1" {
				t.Errorf("clients saw %v, want version 1 alone", got)
			}
			m.Process(func(a *agent.Agent) {
				s, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
				if err != nil || len(s.Status.Denied) != 0 {
					t.Errorf("denied: got %+v, %v, want nothing", s.Status, err)
				}
			})
		})
	}
}

func TestWhatIsNotInstalledCannotBeRehearsed(t *testing.T) {
	m := appMachine(t, 1)
	m.Net.Serve(apps().files[appV1])
	for _, name := range []string{"web", "other"} {
		if _, err := rehearse(m, name); agent.CodeOf(err) != agent.CodeUsage {
			t.Errorf("%s: got %v, want %s", name, err, agent.CodeUsage)
		}
	}
}

// Whatever fails in a rehearsal, or wherever the host dies, what runs is as it was.
func TestARehearsalThatIsCutAnywhereLeavesNothing(t *testing.T) {
	setUp := func() *sim.Machine {
		m := appMachine(t, 1, appV1)
		m.Net.Serve(apps().files[appV2])
		return m
	}
	m := setUp()
	first := m.Effects()
	if _, err := rehearse(m, "web"); err != nil {
		t.Fatal(err)
	}
	effects := m.Effects() - first
	for n := 1; n <= effects; n += appCuts(effects) {
		for _, end := range []sim.End{sim.PowerCut, sim.Killed} {
			m := setUp()
			m.CutAt(n, end)
			_, _ = rehearse(m, "web")
			m.Calm()
			m.Net.Serve(apps().files[appV1]) // nothing new: what is left is looked after
			m.Process(sim.Once)
			wantApp(t, m, "1")
			if got := m.Apps.Trial("web"); got != "" {
				t.Errorf("cut at effect %d: version %s is still tried", n, got)
			}
		}
	}
}
