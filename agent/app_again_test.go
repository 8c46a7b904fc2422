package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/workloads"
)

// away is a runner that cannot start, or stop, anything for a few times.
type away struct {
	workloads.Runner
	starts, stops int
}

// Start implements workloads.Runner.
func (r *away) Start(ctx context.Context, u workloads.Unit) error {
	if r.starts > 0 {
		r.starts--
		return fmt.Errorf("runtime: killed")
	}
	return r.Runner.Start(ctx, u)
}

// Stop implements workloads.Runner.
func (r *away) Stop(ctx context.Context, name string) error {
	if r.stops > 0 {
		r.stops--
		return fmt.Errorf("shim: does not end")
	}
	return r.Runner.Stop(ctx, name)
}

// An agent that meets this when it starts, in an operator's request or in an update does not
// leave the application down until its next poll, half an hour later.
func TestWhatCannotBeStartedIsTriedAgainBeforeTheNextPoll(t *testing.T) {
	for _, c := range []struct {
		name   string
		starts int
		stops  int
		ask    *agent.AppRequest
		want   string
	}{
		{"after a boot", 5, 0, nil, "1"},
		{"restarted by hand", 5, 0, &agent.AppRequest{Do: agent.AppRestart, Name: "web"}, "1"},
		{"left by an update", 7, 0, &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}, "1"},
		{"not stopped by an update", 0, 3, &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := appMachine(t, 1, appV1)
			wantApp(t, m, "1")
			r := &away{Runner: m.Options.Apps.Runner}
			m.Options.Apps.Runner = r
			if c.ask == nil {
				m.Restart(sim.Rebooted)
			} else {
				m.Net.Serve(apps().files[appV2])
			}
			live := m.Daemon(1)
			m.Process(func(a *agent.Agent) {
				r.starts, r.stops = c.starts, c.stops
				if c.ask != nil {
					if _, err := a.Do(t.Context(), agent.Request{Verb: agent.VerbApp, App: c.ask}, nil); err == nil {
						t.Error("the request went well")
					}
				}
				live(a)
			})
			if r.starts+r.stops > 0 {
				t.Errorf("got %d starts and %d stops in vain less than wanted", r.starts, r.stops)
			}
			wantApp(t, m, c.want)
		})
	}
}

// Whoever prints a reason adds its code: the text has none.
func TestTheCodeOfAVersionThatDoesNotStartIsSaidOnce(t *testing.T) {
	m := appMachine(t, 1, appV1)
	r := &away{Runner: m.Options.Apps.Runner}
	m.Options.Apps.Runner = r
	m.Net.Serve(apps().files[appV2])
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		_, err := a.Do(t.Context(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRollback, Name: "web", Data: "restore"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.starts = 2
		_, err = a.Do(t.Context(), agent.Request{Verb: agent.VerbApp, Force: true, App: &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}}, nil)
		if err == nil || strings.Count(err.Error(), "["+agent.CodeUnhealthy+"]") != 1 {
			t.Errorf("got %v, want one [%s]", err, agent.CodeUnhealthy)
		}
		h, err := a.Do(t.Context(), agent.Request{Verb: agent.VerbHistory}, nil)
		if err != nil {
			t.Fatal(err)
		}
		last := h.History[len(h.History)-1]
		if last.Result != "rolled-back" || last.Code != agent.CodeUnhealthy || !strings.HasSuffix(last.Text, "runtime: killed") {
			t.Errorf("history: got %+v", last)
		}
	})
	wantApp(t, m, "1")
}
