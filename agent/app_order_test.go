package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

func TestApplicationsStartInTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		system string              // names of class system
		after  map[string][]string // of each, what starts before it
		want   string
	}{
		{"by name where nothing is said", "", nil, "a b c"},
		{"class system first", "c", nil, "c a b"},
		{"each after what it names", "", map[string][]string{"a": {"b"}, "b": {"c"}}, "c b a"},
		{"what waits holds nobody else up", "", map[string][]string{"a": {"c"}}, "b c a"},
		{"a name goes before a class", "c", map[string][]string{"c": {"a"}}, "a c b"},
		{"what is not there is not waited for", "", map[string][]string{"a": {"x"}}, "a b c"},
		{"a circle is broken at the first name", "", map[string][]string{"a": {"b"}, "b": {"a"}}, "c a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const size = 4 << 12
			w := newAppWorld(size)
			w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
			names := []string{"a", "b", "c"}
			for i, name := range names {
				w.stage(w.app(sim.AppSpec{Name: name, Version: "1", Image: sim.Image(3<<12, uint64(2+i)), Change: func(m *release.AppManifest) {
					m.After = c.after[name]
					if strings.Contains(c.system, name) {
						m.Class = "system"
					}
				}}))
			}
			m := bareMachine(t, w.appWorld, 1)
			for _, name := range names {
				m.Options.Apps.Wanted = append(m.Options.Apps.Wanted, agent.AppWish{Name: name, Publisher: sim.AppPublisher})
			}
			m.Options.Rollout = "all"
			m.Net.Serve(w.files[2])
			m.Process(sim.Once)
			began := len(m.Trace())
			m.Restart(sim.PowerCut)
			m.Process(sim.Once)
			var order []string
			for _, line := range m.Trace()[began:] {
				if _, what, is := strings.Cut(line, "start app "); is {
					order = append(order, strings.TrimSuffix(what, "/1"))
				}
			}
			if got := strings.Join(order, " "); got != c.want {
				t.Errorf("got order %q, want %q\n%s", got, c.want, tailOf(m))
			}
		})
	}
}

// An application that ends again and again is left like one whose check fails.
func TestAnApplicationThatLoopsIsLeftAndDenied(t *testing.T) {
	const size = 4 << 12
	w := newAppWorld(size)
	w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	for i, b := range []sim.Behaviour{sim.Healthy, sim.Looping} {
		w.stage(w.app(sim.AppSpec{Name: "web", Version: []string{"1", "2"}[i], Image: sim.Image(3<<12, uint64(2+i)), Format: 1, Behaviour: b}))
	}
	m := machineIn(t, w.appWorld, "web", 1, 0)
	wantApp(t, m, "1")
	_, data := m.Apps.Running("web")
	kept := string(data)
	m.Net.Serve(w.files[1])
	began := len(m.Trace())
	m.Process(sim.Once)
	wantApp(t, m, "1")
	if _, data := m.Apps.Running("web"); !strings.HasPrefix(string(data), kept) || strings.Contains(string(data), "2") {
		t.Errorf("data: got %q, want %q and what version 1 wrote since", data, kept)
	}
	starts := 0
	for _, line := range m.Trace()[began:] {
		if strings.Contains(line, "start app web/2") {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("version 2 was started %d times by the agent, want once: the runner starts it again", starts)
	}
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbHistory}, nil)
		if err != nil {
			t.Fatal(err)
		}
		last := r.History[len(r.History)-1]
		if last.Result != "rolled-back" || last.Code != agent.CodeUnhealthy || !strings.Contains(last.Text, "it ends again and again: exit status 1") {
			t.Errorf("history: got %+v, want a rollback that says why", last)
		}
		if r, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil); err != nil || !slices.ContainsFunc(r.Status.Denied, func(d agent.Denial) bool { return d.App == "web" && d.Version.String() == "2" }) {
			t.Errorf("denied: got %+v, %v, want version 2", r.Status.Denied, err)
		}
	})
	first := machineIn(t, w.appWorld, "web", 1)
	first.Net.Serve(w.files[1])
	first.Process(sim.Once)
	wantApp(t, first, "") // nor does it go on ending and starting where nothing takes its place
}
