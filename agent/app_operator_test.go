package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// orderStory is something that an operator has done to web, which runs version 2 after 1,
// and of which every single fault is played.
type orderStory struct {
	name string
	order
	// done says of a machine at rest whether it was done; if not, all is as it was before,
	// when web's data was kept.
	done func(m *sim.Machine, kept string) bool
}

// order is what is asked of the agent, once it was found out which data is meant.
type order func(*agent.Agent) agent.AppRequest

func orderTo(do agent.AppDo) order {
	return func(*agent.Agent) agent.AppRequest { return agent.AppRequest{Do: do, Name: "web"} }
}

// parked returns the generation of web's data that version 1 left.
func parked(a *agent.Agent) string {
	r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppDataList}}, nil)
	if err == nil {
		for _, p := range r.Apps.Data {
			if !p.Live {
				return p.Generation
			}
		}
	}
	return ""
}

func runsVersion(want string) func(*sim.Machine, string) bool {
	return func(m *sim.Machine, _ string) bool {
		got, _ := m.Apps.Running("web")
		return got == want
	}
}

var orderStories = []orderStory{
	{"rollback", func(*agent.Agent) agent.AppRequest {
		return agent.AppRequest{Do: agent.AppRollback, Name: "web", Data: "restore"}
	}, runsVersion("1")},
	{"stop", orderTo(agent.AppStopIt), runsVersion("")},
	{"restart", orderTo(agent.AppRestart), runsVersion("2")},
	{"data of then", func(a *agent.Agent) agent.AppRequest {
		return agent.AppRequest{Do: agent.AppDataRestore, Name: "web", Generation: parked(a)}
	}, func(m *sim.Machine, kept string) bool {
		version, data := m.Apps.Running("web")
		return version == "2" && !strings.HasPrefix(string(data), kept)
	}},
}

func (s orderStory) give(m *sim.Machine) (err error) {
	m.Process(func(a *agent.Agent) {
		r := s.order(a)
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &r}, nil)
	})
	return err
}

// play gives the order with at most one fault, and once more if nothing came of it.
func (s orderStory) play(t *testing.T, f appFault) (effects, calls int) {
	t.Helper()
	m := appMachine(t, uint64(f.n), appV1, appV2)
	wantApp(t, m, "2")
	m.Restart(sim.Rebooted) // so that it has written more than a version does at once
	m.Process(sim.Once)
	_, data := m.Apps.Running("web")
	kept := string(data)
	f.strike(m)
	start, called := m.Effects(), m.Calls()
	err := s.give(m)
	effects, calls = m.Effects()-start, m.Calls()-called
	if f.n == 0 && err != nil {
		t.Fatal(err)
	}
	m.Calm()
	rest := func() bool {
		for range 4 {
			m.Process(sim.Once)
		}
		if b := m.Broken(); len(b) > 0 {
			t.Fatalf("%s: %s\n%s", f, strings.Join(b, "\n"), tailOf(m))
		}
		return s.done(m, kept)
	}
	if !rest() {
		m.Restart(sim.Rebooted) // and it stays so
		rest()
		if version, data := m.Apps.Running("web"); version != "2" || !strings.HasPrefix(string(data), kept) {
			t.Fatalf("%s: not done, and got version %q on %q, want 2 on %q\n%s", f, version, data, kept, tailOf(m))
		}
		if err := s.give(m); err != nil || !rest() {
			t.Fatalf("%s: a second time: got %v, want it done\n%s", f, err, tailOf(m))
		}
	}
	return effects, calls
}

func TestWhatAnOperatorOrdersIsDoneOrNotThroughEverySingleFault(t *testing.T) {
	for _, s := range orderStories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			everyFault(t, func(f appFault) (effects, calls int) { return s.play(t, f) })
		})
	}
}
