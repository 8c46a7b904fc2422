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

// What would close a circle is refused with the way round, and what runs is not touched,
// whoever asks: the host by itself, an operator or a release of the OS.
func TestWhatWouldCloseACircleIsRefused(t *testing.T) {
	const size = 4 << 12
	build := func(after map[string][]string) *appWorld { // names with versions
		w := newAppWorld(size)
		w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
		var second []*sim.App
		for i, name := range []string{"a1", "b1", "c1", "a2", "b2"} {
			made := w.app(sim.AppSpec{Name: name[:1], Version: name[1:], Image: sim.Image(3<<12, uint64(2+i)), Format: 1, Change: func(m *release.AppManifest) {
				m.After = after[name]
			}})
			w.stage(made)
			if name[1:] == "2" {
				second = append(second, made)
			}
		}
		w.release(sim.Spec{Version: "2", Images: map[string][]byte{"root": sim.Image(size, 9)}, Apps: second})
		w.stage(nil)
		return w.appWorld
	}
	for _, c := range []struct {
		name  string
		after map[string][]string
		ask   agent.Request
		want  string // "": none
	}{
		{"by itself", map[string][]string{"b1": {"a"}, "a2": {"b"}}, agent.Request{}, "app a 2 cannot be started on this host: after: none of them could start first: a starts after b, b starts after a"},
		{"over another", map[string][]string{"b1": {"c"}, "c1": {"a"}, "a2": {"b"}}, agent.Request{}, "a starts after b, b starts after c, c starts after a"},
		{"an operator, by force", map[string][]string{"b1": {"a"}, "a2": {"b"}}, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}, Force: true}, "a starts after b, b starts after a"},
		{"in a rehearsal", map[string][]string{"b1": {"a"}, "a2": {"b"}}, agent.Request{App: &agent.AppRequest{Do: agent.AppRehearse}}, "a starts after b, b starts after a"},
		{"the other way round", map[string][]string{"b1": {"a"}}, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}}, ""},
		{"of itself and one that waits already", map[string][]string{"c1": {"a", "b"}}, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := build(c.after)
			m := bareMachine(t, w, 1)
			for _, name := range []string{"a", "b", "c"} {
				m.Options.Apps.Wanted = append(m.Options.Apps.Wanted, agent.AppWish{Name: name, Publisher: sim.AppPublisher})
			}
			m.Options.Rollout = "all"
			m.Net.Serve(w.files[2])
			m.Process(sim.Once)
			m.Net.Serve(w.files[3])
			began := len(m.Trace())
			var err error
			m.Process(func(g *agent.Agent) {
				if c.ask.App == nil {
					sim.Once(g)
					return
				}
				r := c.ask
				r.Verb, r.App.Name = agent.VerbApp, "a"
				_, err = g.Do(context.Background(), r, nil)
			})
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v, want an update", err)
				}
				return
			}
			if c.ask.App != nil && (agent.CodeOf(err) != agent.CodeIncompatible || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if i := slices.IndexFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, "stop app") || strings.Contains(l, "start app") }); i >= 0 {
				t.Errorf("what runs was touched: %s", m.Trace()[began+i])
			}
			m.Process(func(g *agent.Agent) {
				sim.Once(g)
				r, err := g.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: "a"}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if a := r.Apps.Apps[0]; a.Version.String() != "1" || !slices.ContainsFunc(a.Reasons, func(r agent.Reason) bool { return strings.Contains(r.Text, c.want) }) {
					t.Errorf("why: got version %s and %+v, want 1 and %q", a.Version, a.Reasons, c.want)
				}
			})
			if denied := deniedOf(t, m); len(denied) > 0 {
				t.Errorf("denied: got %+v, want that it is held", denied)
			}
		})
	}
	t.Run("a release of the OS", func(t *testing.T) {
		t.Parallel()
		w := build(map[string][]string{"a2": {"c"}, "b2": {"a"}, "c1": {"b"}})
		m := bareMachine(t, w, 1)
		m.Options.Apps.Wanted = []agent.AppWish{{Name: "a", Publisher: sim.AppPublisher, Bundled: true}, {Name: "b", Publisher: sim.AppPublisher, Bundled: true}, {Name: "c", Publisher: sim.AppPublisher}}
		m.Options.Rollout = "all"
		m.Net.Serve(w.files[2])
		m.Process(sim.Once)
		began := len(m.Trace())
		m.Net.Serve(w.files[5])
		var err error
		m.Process(func(g *agent.Agent) {
			_, err = g.Do(context.Background(), agent.Request{Verb: agent.VerbUpdate, Force: true}, nil)
		})
		const want = "a starts after c, c starts after b, b starts after a"
		if agent.CodeOf(err) != agent.CodeIncompatible || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if i := slices.IndexFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, "stop app") || strings.Contains(l, "arm") }); i >= 0 {
			t.Errorf("what runs was touched: %s", m.Trace()[began+i])
		}
		if denied := deniedOf(t, m); len(denied) > 0 {
			t.Errorf("denied: got %+v, want that it is held", denied)
		}
	})
}

// deniedOf is what a machine's agent says that it denies.
func deniedOf(t *testing.T, m *sim.Machine) (list []agent.Denial) {
	t.Helper()
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil {
			t.Fatal(err)
		}
		list = r.Status.Denied
	})
	return list
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
