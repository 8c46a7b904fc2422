package agent_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

// the stages of an appWorld.
const (
	appV1     = iota // web 1
	appV2            // web 2, healthy
	appBad           // web 3, whose check never passes
	appOS2           // release 2 of the OS, with web 2
	appOS2Bad        // release 3 of the OS, whose health fails
)

var apps = sync.OnceValue(func() *appWorld {
	const size = 8 << 12
	w := newAppWorld(size)
	first := w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	image := sim.Image(6<<12, 7)
	one := w.stage(w.app(sim.AppSpec{Name: "web", Version: "1", Image: image, Format: 1}))
	two := w.stage(w.app(sim.AppSpec{Name: "web", Version: "2", Image: sim.Edit(image, 3), From: one, Format: 2}))
	w.stage(w.app(sim.AppSpec{Name: "web", Version: "3", Image: sim.Edit(image, 4), From: two, Format: 2, Behaviour: sim.Unhealthy}))
	for i, b := range []sim.Behaviour{sim.Healthy, sim.Unhealthy} {
		w.release(sim.Spec{Version: fmt.Sprint(i + 2), Images: map[string][]byte{"root": sim.Edit(sim.Image(size, 1), uint64(10+i))}, From: []*sim.Release{first}, Behaviour: b})
		w.stage(nil)
	}
	return w.appWorld
})

// appMachine is a machine that was set up with release 1, web 1 if installed, and then
// sees the repository at a stage.
func appMachine(t testing.TB, seed uint64, installed ...int) *sim.Machine {
	t.Helper()
	return machineIn(t, apps(), "web", seed, installed...)
}

func wantApp(t testing.TB, m *sim.Machine, version string) {
	t.Helper()
	if got, _ := m.Apps.Running("web"); got != version {
		t.Fatalf("web %q runs, want %q; data %q\n%s", got, version, m.Apps.Data("web"), strings.Join(m.Trace()[max(0, len(m.Trace())-60):], "\n"))
	}
	if b := m.Broken(); len(b) > 0 {
		t.Fatalf("laws were broken: %s", strings.Join(b, "\n"))
	}
}

func TestAnApplicationIsInstalledUpdatedAndKeptWithItsData(t *testing.T) {
	m := appMachine(t, 1, appV1)
	wantApp(t, m, "1")
	m.Net.Serve(apps().files[appV2])
	m.Process(sim.Once)
	wantApp(t, m, "2")
	_, data := m.Apps.Running("web")
	if !strings.HasPrefix(string(data), "1\n1\n") || !strings.HasSuffix(string(data), "2\n") {
		t.Errorf("version 2 does not go on with the data of version 1: %q", data)
	}
	m.QuietWhenIdle()
	wantApp(t, m, "2")
	// An orderly reboot brings it back on the same data.
	m.Restart(sim.Rebooted)
	m.Process(sim.Once)
	wantApp(t, m, "2")
}

func TestAnUnhealthyApplicationIsLeftWithItsDataParkedAndDenied(t *testing.T) {
	m := appMachine(t, 1, appV1, appV2)
	wantApp(t, m, "2")
	_, before := m.Apps.Running("web")
	kept := string(before)
	m.Net.Serve(apps().files[appBad])
	m.Process(sim.Once)
	wantApp(t, m, "2")
	_, after := m.Apps.Running("web")
	if !strings.HasPrefix(string(after), kept) || strings.Contains(string(after), "3") {
		t.Errorf("data of version 2: got %q, want %q and what version 2 wrote since", after, kept)
	}
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppDataList}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rejected := 0
		for _, p := range r.Apps.Data {
			if !p.Kept && strings.Contains(p.Text, "web 3") {
				rejected++
			}
		}
		if rejected != 1 {
			t.Errorf("parked data: got %+v, want the generation of version 3 with its reason", r.Apps.Data)
		}
		s, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil || len(s.Status.Denied) != 1 || s.Status.Denied[0].App != "web" {
			t.Errorf("denied: got %+v, %v", s.Status.Denied, err)
		}
	})
	m.QuietWhenIdle()
	wantApp(t, m, "2")
}

func TestAnOperatorGoesBackWithTheDataOfThen(t *testing.T) {
	m := appMachine(t, 1, appV1, appV2)
	rollback := func(data string) (err error) {
		m.Process(func(a *agent.Agent) {
			_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRollback, Name: "web", Data: data}}, nil)
		})
		return err
	}
	if err := rollback("keep"); agent.CodeOf(err) != agent.CodeDataFormat {
		t.Fatalf("version 1 does not read the data of version 2: got %v, want %s", err, agent.CodeDataFormat)
	}
	wantApp(t, m, "2")
	if err := rollback("restore"); err != nil {
		t.Fatal(err)
	}
	wantApp(t, m, "1")
	if _, data := m.Apps.Running("web"); strings.Contains(string(data), "2") {
		t.Errorf("version 1 runs on data that version 2 wrote: %q", data)
	}
	m.Process(sim.Once)
	wantApp(t, m, "1")
}

func TestAnUpdateThatAsksForMoreIsHeldUntilGranted(t *testing.T) {
	w := apps()
	dir := t.TempDir()
	p, err := sim.NewPublisher(dir, noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(8<<12, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Direct(first, nil); err != nil {
		t.Fatal(err)
	}
	a, err := p.App(sim.AppSpec{Name: "web", Version: "4", Image: sim.Image(4<<12, 9), Change: func(m *release.AppManifest) {
		m.Permissions = []release.AppPermission{{Name: "outbound"}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	m := appMachine(t, 1)
	m.NewApplications(append(w.apps, a)...)
	m.Options.Apps.Wanted = []agent.AppWish{{Name: "web", Publisher: sim.AppPublisher}}
	m.Options.Factory = p.Root()
	m.Net.Serve(p.Files())
	m.Process(sim.Once)
	wantApp(t, m, "")
	m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}}, nil)
		if agent.CodeOf(err) != agent.CodePermission {
			t.Errorf("got %v, want %s", err, agent.CodePermission)
		}
		if _, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppGrantIt, Name: "web", Permission: "outbound"}}, nil); err != nil {
			t.Fatal(err)
		}
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppUpdate, Name: "web"}}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantApp(t, m, "4")
}

// appStory is one history of applications, of which every single fault is played.
type appStory struct {
	name      string
	installed []int
	stage     int
	web, os   string // that run in the end
	// without is what the data must not hold in the end: what another version wrote.
	without string
}

var appStories = []appStory{
	{"install", nil, appV1, "1", "1", "2"},
	{"healthy update", []int{appV1}, appV2, "2", "1", "3"},
	{"unhealthy update", []int{appV1, appV2}, appBad, "2", "1", "3"},
	{"OS with apps", []int{appV1, appV2, appBad}, appOS2, "2", "2", "3"},
	{"OS that falls back", []int{appV1, appV2, appBad}, appOS2Bad, "2", "1", "3"},
}

// appCuts is how far the faults of a story lie apart: with TWINKEEL_LONG each one is played.
func appCuts(effects int) int {
	if os.Getenv("TWINKEEL_LONG") != "" {
		return 1
	}
	return max(1, effects/20)
}

// appFault is the one fault of a history of applications: at the nth effect a cut, or at the
// nth call an error, after which the process goes on. 0: none.
type appFault struct {
	n    int
	fate sim.Fate
	as   sim.End
}

func (f appFault) String() string { return fmt.Sprintf("%s %d, %s", f.as, f.n, f.fate) }

// strike lets it come.
func (f appFault) strike(m *sim.Machine) {
	m.Fate = f.fate
	switch {
	case f.n > 0 && f.as == sim.Returned:
		m.FailAt(f.n)
	case f.n > 0:
		m.CutAt(f.n, f.as)
	}
}

// everyFault plays a history without a fault, and then with each one in turn. play returns
// how many effects and calls there were.
func everyFault(t *testing.T, play func(f appFault) (effects, calls int)) {
	t.Helper()
	effects, calls := play(appFault{})
	if effects == 0 {
		t.Fatal("the story has no effects")
	}
	for n := 1; n <= effects; n += appCuts(effects) {
		play(appFault{n, sim.Lost, sim.PowerCut})
		play(appFault{n, sim.Mixed, sim.PowerCut})
		play(appFault{n, sim.Lost, sim.Killed})
	}
	for n := 1; n <= calls; n += appCuts(calls) {
		play(appFault{n, sim.Lost, sim.Returned})
	}
	t.Logf("%d effects, %d calls, each %dth", effects, calls, appCuts(effects))
}

func TestApplicationsAndTheirDataSurviveEverySingleFault(t *testing.T) {
	for _, s := range appStories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			everyFault(t, func(f appFault) (effects, calls int) {
				m := appMachine(t, uint64(f.n), s.installed...)
				_, before := m.Apps.Running("web")
				kept := string(before)
				m.Net.Serve(apps().files[s.stage])
				f.strike(m)
				start, called := m.Effects(), m.Calls()
				settleApps(m, s)
				effects, calls = m.Effects()-start, m.Calls()-called
				m.Calm()
				settleApps(m, s)
				wantApp(t, m, s.web)
				if got := m.Running().Manifest.Version.String(); got != s.os {
					t.Fatalf("%s: OS %s runs, want %s", f, got, s.os)
				}
				_, after := m.Apps.Running("web")
				if !strings.HasPrefix(string(after), kept) || strings.Contains(string(after), s.without) {
					t.Fatalf("%s: data: got %q, want %q and what version %s wrote since", f, after, kept, s.web)
				}
				return effects, calls
			})
		})
	}
}

// settleApps lets the machine run until the story has come to its end.
func settleApps(m *sim.Machine, s appStory) {
	for range 12 {
		m.Process(sim.Once)
		if !m.OnTrial() { // a trial has a deadline
			m.Pass(2 * time.Hour)
		}
		web, _ := m.Apps.Running("web")
		r := m.Running()
		if r == nil || web != s.web || r.Manifest.Version.String() != s.os || m.Journal().Phase != agent.Idle {
			continue
		}
		if m.Record().Slots[m.Standing()].Successful {
			m.Process(sim.Once)
			return
		}
	}
}
