package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

// newFactory is a world whose first release, which a disk is made with, names web 1, as
// change makes it, and whose next one names web 2, which writes data that web 1 does not read.
func newFactory(change func(*sim.AppSpec)) *appWorld {
	const size = 6 << 12
	w := newAppWorld(size)
	for i := range 2 {
		spec := sim.AppSpec{Name: "web", Version: fmt.Sprint(i + 1), Image: sim.Image(3<<12, uint64(i)), Format: 1 + i}
		if change != nil && i == 0 {
			change(&spec)
		}
		web := w.app(spec)
		w.release(sim.Spec{Version: fmt.Sprint(i + 1), Images: map[string][]byte{"root": sim.Edit(sim.Image(size, 1), uint64(i))}, From: w.os[:i], Apps: []*sim.App{web}})
		w.stage(nil)
	}
	return w.appWorld
}

var factoryApps = sync.OnceValue(func() *appWorld { return newFactory(nil) })

// factoryMachine was made with release 1 of a world, and wants what releases bring.
func factoryMachine(t *testing.T, w *appWorld) *sim.Machine {
	t.Helper()
	m := machineIn(t, w, "web", 1)
	m.Options.Rollout = "directive"
	m.Options.Apps.Wanted[0].Bundled = true
	m.Net.Serve(w.files[0])
	return m
}

// ofWeb asks for something about web, and returns what the answer was.
func ofWeb(m *sim.Machine, r agent.AppRequest) (err error) {
	r.Name = "web"
	m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &r}, nil)
	})
	return err
}

// poll lets the machine poll once, and returns what then stands against web.
func poll(t *testing.T, m *sim.Machine) (s agent.AppStatus) {
	t.Helper()
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: "web"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s = r.Apps.Apps[0]
	})
	return s
}

// quiet polls again, a while later, and wants that to write nothing.
func quiet(t *testing.T, m *sim.Machine) {
	t.Helper()
	m.Pass(2 * time.Hour)
	m.QuietWhenIdle()
	if b := m.Broken(); len(b) > 0 {
		t.Errorf("laws were broken: %s", strings.Join(b, "\n"))
	}
}

// A disk has the system of its release alone. Its applications come with the first poll, and
// go on with the releases.
func TestTheApplicationsOfAFactoryReleaseComeByThemselves(t *testing.T) {
	for _, bundled := range []bool{true, false} {
		t.Run(fmt.Sprintf("bundled %t", bundled), func(t *testing.T) {
			t.Parallel()
			w := factoryApps()
			m := factoryMachine(t, w)
			m.Options.Apps.Wanted[0].Bundled = bundled
			// The release counts, not what is newest.
			m.Options.Rollout = "all"
			s := poll(t, m)
			wantApp(t, m, "1")
			if !s.Bundled || s.State != "running" || len(s.Reasons) > 0 {
				t.Errorf("got %+v, want an app that runs and came with its release", s)
			}
			var last agent.HistoryEntry
			m.Process(func(a *agent.Agent) {
				r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbHistory}, nil)
				if err != nil {
					t.Fatal(err)
				}
				last = r.History[len(r.History)-1]
			})
			if last.Kind != "app-install" || last.Result != "committed" || last.Text != "release 1 names it" {
				t.Errorf("history: got %+v", last)
			}
			quiet(t, m)
			_, data := m.Apps.Running("web")
			was := string(data)
			m.Net.Serve(w.files[1])
			osStory{os: "2"}.settle(m)
			wantApp(t, m, "2")
			if _, data := m.Apps.Running("web"); was == "" || !strings.HasPrefix(string(data), was) {
				t.Errorf("web 2 has %q, want %q and what it wrote since", data, was)
			}
		})
	}
}

// What an operator or the host says against it counts as for any install, and a poll that
// finds that again writes nothing.
func TestAnApplicationOfAFactoryReleaseWaits(t *testing.T) {
	asks := newFactory(func(s *sim.AppSpec) {
		s.Change = func(m *release.AppManifest) { m.Permissions = []release.AppPermission{{Name: "outbound"}} }
	})
	ask := func(r agent.AppRequest) func(*testing.T, *sim.Machine) {
		return func(t *testing.T, m *sim.Machine) {
			if err := ofWeb(m, r); err != nil {
				t.Error(err)
			}
		}
	}
	wish := func(change func(*agent.AppWish)) func(*testing.T, *sim.Machine) {
		return func(_ *testing.T, m *sim.Machine) { change(&m.Options.Apps.Wanted[0]) }
	}
	two, _ := release.ParseVersion("2")
	for _, c := range []struct {
		name   string
		world  *appWorld
		before func(*testing.T, *sim.Machine) // what stands against it
		code   string                         // says so
		after  func(*testing.T, *sim.Machine) // ends that; nil: nothing does
	}{
		{"held", factoryApps(), ask(agent.AppRequest{Do: agent.AppHold}), agent.CodeHeld, ask(agent.AppRequest{Do: agent.AppUnhold})},
		{"held by the configuration", factoryApps(), wish(func(w *agent.AppWish) { w.Hold = true }), agent.CodeHeld, wish(func(w *agent.AppWish) { w.Hold = false })},
		{"stopped", factoryApps(), ask(agent.AppRequest{Do: agent.AppStopIt}), agent.CodeHeld, ask(agent.AppRequest{Do: agent.AppStartIt})},
		{"pinned", factoryApps(), ask(agent.AppRequest{Do: agent.AppPin, Version: two}), agent.CodeHeld, ask(agent.AppRequest{Do: agent.AppUnpin})},
		{"not granted", asks, nil, agent.CodePermission, ask(agent.AppRequest{Do: agent.AppGrantIt, Permission: "outbound"})},
		{"denied to it", asks, wish(func(w *agent.AppWish) { w.Allow, w.Deny = []string{"outbound"}, []string{"outbound"} }), agent.CodePermission, wish(func(w *agent.AppWish) { w.Deny = nil })},
		{"of another publisher", factoryApps(), wish(func(w *agent.AppWish) { w.Publisher = "other" }), agent.CodeIncompatible, nil},
		{"too open", factoryApps(), func(_ *testing.T, m *sim.Machine) { m.Options.Apps.Isolation = "vm" }, agent.CodeIncompatible, func(_ *testing.T, m *sim.Machine) { m.Options.Apps.Isolation = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := factoryMachine(t, c.world)
			if c.before != nil {
				c.before(t, m)
			}
			s := poll(t, m)
			wantApp(t, m, "")
			if !slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return r.Code == c.code }) {
				t.Errorf("reasons: got %+v, want %s", s.Reasons, c.code)
			}
			quiet(t, m)
			if c.after != nil {
				c.after(t, m)
				m.Process(sim.Once)
				wantApp(t, m, "1")
			}
		})
	}
}

// One that no [[app]] is about is not this host's.
func TestAnApplicationOfAFactoryReleaseThatNobodyWantsIsNotInstalled(t *testing.T) {
	m := factoryMachine(t, factoryApps())
	m.Options.Apps.Wanted = nil
	m.Process(sim.Once)
	wantApp(t, m, "")
	quiet(t, m)
}

// It was tried, left and denied once. After that only an operator tries it again, or another
// release brings another version.
func TestAnApplicationOfAFactoryReleaseThatFailsIsTriedOnce(t *testing.T) {
	w := newFactory(func(s *sim.AppSpec) { s.Behaviour = sim.Unhealthy })
	m := factoryMachine(t, w)
	s := poll(t, m)
	wantApp(t, m, "")
	denied := func(s agent.AppStatus) bool {
		return slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return r.Code == agent.CodeDenied })
	}
	if !denied(s) {
		t.Errorf("reasons: got %+v, want %s", s.Reasons, agent.CodeDenied)
	}
	for range 2 {
		m.Restart(sim.Rebooted)
		if m.Pass(2 * time.Hour); !denied(poll(t, m)) {
			t.Errorf("reasons: want %s in another boot, too", agent.CodeDenied)
		}
		quiet(t, m)
	}
	m.Net.Serve(w.files[1])
	osStory{os: "2"}.settle(m)
	wantApp(t, m, "2")
}

// The slot of the factory is fallen back to and lacks its application, which a later release
// has brought meanwhile: it does not begin anew beside newer data.
func TestAnApplicationOfAFactoryReleaseDoesNotTakeNewerDataOver(t *testing.T) {
	w := factoryApps()
	m := factoryMachine(t, w)
	if err := ofWeb(m, agent.AppRequest{Do: agent.AppHold}); err != nil {
		t.Fatal(err)
	}
	m.Net.Serve(w.files[1])
	osStory{os: "2"}.settle(m)
	wantApp(t, m, "2")
	if err := ofWeb(m, agent.AppRequest{Do: agent.AppUnhold}); err != nil {
		t.Fatal(err)
	}
	was := fmt.Sprint(m.Apps.Data("web"))
	m.Running().Behaviour = sim.Unloadable
	m.Restart(sim.Rebooted)
	osStory{os: "1"}.settle(m)
	s := poll(t, m)
	wantApp(t, m, "")
	if !slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return r.Code == agent.CodeDataFormat }) {
		t.Errorf("reasons: got %+v, want %s", s.Reasons, agent.CodeDataFormat)
	}
	if now := fmt.Sprint(m.Apps.Data("web")); len(m.Apps.Data("web")) != 1 {
		t.Errorf("data: got %s, want %s and what it wrote since", now, was)
	}
	quiet(t, m)
}

// An operator gets what the release names, and another version only by its number.
func TestAnOperatorInstallsWhatTheReleaseNames(t *testing.T) {
	w := factoryApps()
	for version, want := range map[string]bool{"": true, "1": true, "2": false} {
		m := factoryMachine(t, w)
		m.Net.Serve(w.files[1]) // web 2 is the newest
		r := agent.AppRequest{Do: agent.AppUpdate}
		if version != "" {
			r.Version, _ = release.ParseVersion(version)
		}
		if err := ofWeb(m, r); err != nil {
			t.Fatal(err)
		}
		if version != "2" {
			version = "1"
		}
		wantApp(t, m, version)
		m.Process(func(a *agent.Agent) {
			l, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppList}}, nil)
			if err != nil || l.Apps.Apps[0].Bundled != want {
				t.Errorf("version %s: got %+v, %v, want bundled %t", version, l.Apps.Apps[0], err, want)
			}
		})
	}
}
