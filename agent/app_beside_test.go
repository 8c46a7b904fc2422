package agent_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

// The stages of besideWorld.
const (
	apiV1      = iota // api 1
	apiV2             // api 2, healthy
	apiBad            // api 3, whose check never passes
	apiFalters        // api 4, whose check fails once clients are led to it
	apiKeeper         // api 5, which has data of its own
	sockV1            // sock 1
	sockV2            // sock 2
)

// besideWorld is a repository with applications that are switched, not stopped.
var besideWorld = sync.OnceValue(func() *appWorld {
	const size = 8 << 12
	w := newAppWorld(size)
	w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	image := sim.Image(4<<12, 7)
	app := func(name, version, strategy string, b sim.Behaviour, change func(*release.AppManifest)) {
		w.stage(w.app(sim.AppSpec{Name: name, Version: version, Image: sim.Edit(image, uint64(len(w.apps))), Format: 1, Behaviour: b, Change: func(m *release.AppManifest) {
			m.Update.Strategy, m.Data = strategy, nil
			m.Health.Probation = release.Duration(8 * time.Second)
			m.Network = release.AppNetwork{Mode: "private"}
			if strategy == "socket" {
				m.Network.Sockets = []release.AppSocket{{Name: "http", Listen: "0.0.0.0:80"}}
			}
			if change != nil {
				change(m)
			}
		}}))
	}
	app("api", "1", "parallel", sim.Healthy, nil)
	app("api", "2", "parallel", sim.Healthy, nil)
	app("api", "3", "parallel", sim.Unhealthy, nil)
	app("api", "4", "parallel", sim.Flapping, nil)
	app("api", "5", "parallel", sim.Healthy, func(m *release.AppManifest) {
		m.Data = []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 20}}
	})
	app("sock", "1", "socket", sim.Healthy, nil)
	app("sock", "2", "socket", sim.Healthy, nil)
	return w.appWorld
})

// besideStory is one history of an application that is switched, of which every single
// fault is played.
type besideStory struct {
	name      string
	installed []int
	stage     int
	app       string
	rollback  bool     // the operator goes back
	want      string   // version that serves in the end
	served    []string // that clients were ever led to
	// seamless says that without a fault, or with a kill of the agent alone, some version
	// serves at every moment.
	seamless bool
}

var besideStories = []besideStory{
	{"healthy update", []int{apiV1}, apiV2, "api", false, "2", []string{"1", "2"}, true},
	{"unhealthy update", []int{apiV1, apiV2}, apiBad, "api", false, "2", []string{"1", "2"}, true},
	{"update that falters in service", []int{apiV1, apiV2}, apiFalters, "api", false, "2", []string{"1", "2", "4"}, false},
	{"rollback by hand", []int{apiV1, apiV2}, apiV2, "api", true, "1", []string{"1", "2"}, true},
	{"update to versioned data", []int{apiV1}, apiKeeper, "api", false, "5", []string{"1", "5"}, false},
	{"healthy update with a socket", []int{sockV1}, sockV2, "sock", false, "2", []string{"1", "2"}, false},
}

// settle lets the machine run until a round changes nothing.
func (s besideStory) settle(t *testing.T, m *sim.Machine) {
	t.Helper()
	for range 12 {
		before := m.Effects()
		end := m.Process(func(a *agent.Agent) {
			if got, _ := m.Apps.Running(s.app); s.rollback && got == "2" {
				_, _ = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRollback, Name: s.app, Data: "keep"}}, nil)
			}
			sim.Once(a)
		})
		if end == sim.Killed && s.seamless {
			if got, _ := m.Apps.Running(s.app); got == "" {
				t.Fatalf("a kill of the agent left neither version\n%s", tailOf(m))
			}
		}
		got, _ := m.Apps.Running(s.app)
		if end == sim.Returned && m.Effects() == before && got == s.want {
			return
		}
		m.Pass(2 * time.Hour)
	}
}

func tailOf(m *sim.Machine) string {
	trace := m.Trace()
	return strings.Join(trace[max(0, len(trace)-60):], "\n")
}

// play lives through the story with at most one fault, and returns how many effects and
// calls it had.
func (s besideStory) play(t *testing.T, f appFault) (effects, calls int) {
	t.Helper()
	m := machineIn(t, besideWorld(), s.app, uint64(f.n), s.installed...)
	m.Net.Serve(besideWorld().files[s.stage])
	f.strike(m)
	began := len(m.Trace())
	start, called := m.Effects(), m.Calls()
	s.settle(t, m)
	effects, calls = m.Effects()-start, m.Calls()-called
	m.Calm()
	if f.n == 0 && s.seamless && slices.ContainsFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, "stop app") }) {
		t.Errorf("what runs was stopped\n%s", tailOf(m))
	}
	s.settle(t, m)
	got, _ := m.Apps.Running(s.app)
	served := m.Apps.Served(s.app)
	switch {
	case len(m.Broken()) > 0:
		t.Fatalf("%s: %s\n%s", f, strings.Join(m.Broken(), "\n"), tailOf(m))
	case got != s.want || m.Apps.Trial(s.app) != "":
		t.Fatalf("%s: %q serves and %q is tried, want %q alone\n%s", f, got, m.Apps.Trial(s.app), s.want, tailOf(m))
	case slices.ContainsFunc(served, func(v string) bool { return !slices.Contains(s.served, v) }):
		t.Fatalf("%s: clients were led to %v, want %v\n%s", f, served, s.served, tailOf(m))
	}
	m.QuietWhenIdle()
	if len(m.Broken()) > 0 {
		t.Fatalf("%s: %s\n%s", f, strings.Join(m.Broken(), "\n"), tailOf(m))
	}
	return effects, calls
}

func TestASwitchSurvivesEverySingleFault(t *testing.T) {
	for _, s := range besideStories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			everyFault(t, func(f appFault) (effects, calls int) { return s.play(t, f) })
		})
	}
}

func TestAVersionThatFailsItsTrialIsDeniedWithItsOwnWords(t *testing.T) {
	s := besideStories[1]
	m := machineIn(t, besideWorld(), s.app, 1, s.installed...)
	m.Net.Serve(besideWorld().files[s.stage])
	s.settle(t, m)
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil || len(r.Status.Denied) != 1 || r.Status.Denied[0].App != s.app || r.Status.Denied[0].Version.String() != "3" {
			t.Errorf("denied: got %+v, %v, want version 3 of %s", r.Status.Denied, err, s.app)
		}
		if r, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbHistory}, nil); err != nil {
			t.Fatal(err)
		}
		last := r.History[len(r.History)-1]
		if last.Result != "rolled-back" || last.Code != agent.CodeUnhealthy || !slices.Contains(last.Evidence, "these are the words of version 3") {
			t.Errorf("history: got %+v, want the verdict with its evidence", last)
		}
		if r, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppList}}, nil); err != nil {
			t.Fatal(err)
		}
		if got := r.Apps.Apps[0]; got.Switch != "parallel" || got.SwitchText != "" {
			t.Errorf("status: got switch %q, %q, want parallel", got.Switch, got.SwitchText)
		}
	})
	m.Net.Serve(besideWorld().files[apiKeeper])
	m.Process(func(a *agent.Agent) {
		// What versioned data asks for instead is said before it happens.
		_, _ = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppHold, Name: s.app}}, nil)
		sim.Once(a)
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: s.app}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Apps.Apps[0]; got.Switch != "stop-start" || !strings.Contains(got.SwitchText, "volume db") {
			t.Errorf("status: got switch %q, %q, want stop-start because of volume db", got.Switch, got.SwitchText)
		}
	})
}
