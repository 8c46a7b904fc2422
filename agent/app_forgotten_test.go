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
)

// Like those of forgotten_test.go, these are defects that random histories found, with
// applications in them.

// A deployment that was written and never came to be holds what the slot holds, too.
func TestALostPointerIsNotThatOfApplicationsThatNeverRan(t *testing.T) {
	for _, s := range []struct {
		installed []int
		stage     int
		want      string
	}{{nil, appV1, "1"}, {[]int{appV1}, appV2, "2"}} {
		for n := 1; ; n += stride(1) {
			m := appMachine(t, 1, s.installed...)
			m.Net.Serve(apps().files[s.stage])
			m.CutAt(n, sim.PowerCut)
			if m.Process(sim.Once) != sim.PowerCut {
				break
			}
			m.State.Damage("slot-a.json", []byte("{"))
			m.Forget("slot-a.json")
			for range 4 {
				m.Process(sim.Once)
				m.Pass(2 * time.Hour)
			}
			wantApp(t, m, s.want)
		}
	}
}

// The pointer is turned and whether that lasts is not known. Half of the worlds take it
// back; the process that goes on must not start anything on it before it lasts.
func TestAFlipThatMayNotLastIsMadeToLast(t *testing.T) {
	m := appMachine(t, 0, appV1)
	m.Net.Serve(apps().files[appV2])
	start := len(m.Trace())
	m.Process(sim.Once)
	sync := 1 + slices.IndexFunc(m.Trace()[start:], func(line string) bool { return strings.Contains(line, "rename state/slot-a.json") })
	if sync == 0 {
		t.Fatalf("no pointer was turned\n%s", tailOf(m))
	}
	for seed := range uint64(8) {
		m := appMachine(t, seed, appV1)
		m.Net.Serve(apps().files[appV2])
		m.FailAt(sync + 1)
		m.Process(func(a *agent.Agent) {
			sim.Once(a)
			sim.Once(a)
		})
		wantApp(t, m, "2")
	}
}

// An operator who starts an application on trial again counts its boot, too.
func TestARestartInATrialIsOneOfItsBoots(t *testing.T) {
	w := downs[0]()
	m := machineIn(t, w, "web", 1) // its first version: there is no data that it could not read
	m.Net.Serve(w.files[1])
	times := 0
	m.KeepsPanic = func() bool {
		times++
		return true
	}
	for range 12 {
		m.Process(func(a *agent.Agent) {
			_, _ = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppRestart, Name: "web"}}, nil)
			sim.Once(a)
		})
		m.Pass(2 * time.Hour)
	}
	if times != 3 {
		t.Errorf("the machine went down %d times, want 3", times)
	}
	wantApp(t, m, "")
}

// comesBack is a world of releases without an application, with it, without it, and with it.
var comesBack = sync.OnceValue(func() *appWorld {
	const size = 6 << 12
	w := newAppWorld(size)
	web := func(version string) []*sim.App {
		return []*sim.App{w.app(sim.AppSpec{Name: "web", Version: version, Image: sim.Image(3<<12, uint64(len(w.apps))), Format: 1, Reads: 1})}
	}
	for i, with := range [][]*sim.App{nil, web("1"), nil, web("2")} {
		s := sim.Spec{Version: fmt.Sprint(i + 1), Images: map[string][]byte{"root": sim.Edit(sim.Image(size, 1), uint64(i))}, Apps: with}
		if i > 0 {
			s.From = w.os[i-1:]
		}
		w.release(s)
		w.stage(nil)
	}
	return w.appWorld
})

// What a release leaves out and a later one brings back goes on with what it wrote last.
func TestAnApplicationThatComesBackGoesOnWithItsData(t *testing.T) {
	s := osStory{name: "comes back", world: comesBack, reached: 1, stage: 2, os: "3"}
	m := s.begin(t, 1)
	_, data := m.Apps.Running("web")
	was := string(data)
	s.settle(m)
	if web, _ := m.Apps.Running("web"); web != "" || was == "" || m.Running().Manifest.Version.String() != "3" {
		t.Fatalf("web %q runs in release %s, which is without it; it had %q", web, m.Running(), was)
	}
	m.Net.Serve(s.world().files[3])
	s.os = "4"
	s.settle(m)
	if web, data := m.Apps.Running("web"); web != "2" || !strings.HasPrefix(string(data), was) {
		t.Errorf("web %q runs on %q, want 2 on %q and what it wrote since", web, data, was)
	}
	if broken := m.Broken(); len(broken) > 0 {
		t.Error(broken[0])
	}
}

// The number of a transaction is in the names of its generations, and is lost with the
// journal: a later trial must not run on what an earlier one left under that name.
func TestALostJournalGivesNoNameOfAGenerationAgain(t *testing.T) {
	s := osStory{name: "comes back", world: comesBack, reached: 1, stage: 3, os: "4"}
	m := s.begin(t, 1)
	was := fmt.Sprint(m.Apps.Data("web"))
	m.State.Damage("journal.json", []byte("{"))
	m.Forget("journal.json")
	s.settle(m)
	if now := fmt.Sprint(m.Apps.Data("web")); len(m.Apps.Data("web")) != 2 {
		t.Errorf("data of web: got %s, want %s and a generation of the trial's own", now, was)
	}
	wantApp(t, m, "2")
}

// Both copies of the deployment that runs are lost: the host goes on with an older one, and
// an application that it does not name comes back on its data.
func TestAnApplicationWhoseDeploymentIsLostGoesOnWithItsData(t *testing.T) {
	m := appMachine(t, 1, appV1)
	_, data := m.Apps.Running("web")
	was := string(data)
	m.State.Damage("deployment-2.json", []byte("{"))
	m.State.Damage("deployment-2.copy.json", nil)
	m.Restart(sim.Rebooted)
	for range 3 {
		m.Process(sim.Once)
		m.Pass(2 * time.Hour)
	}
	wantApp(t, m, "1")
	if _, data := m.Apps.Running("web"); !strings.HasPrefix(string(data), was) {
		t.Errorf("data: got %q, want %q and what was written since", data, was)
	}
}

// The pointer of the slot on trial is damaged, and reading the slot fails once: it is not
// taken for what it was staged as, without the applications that it was armed with.
func TestATrialWhosePointerIsLostIsTheOneThatWasArmed(t *testing.T) {
	w := factoryApps()
	for call := 1; call <= 45; call += stride(1) {
		m := machineIn(t, w, "web", 1)
		m.Options.Apps.Wanted[0].Bundled = true
		m.Net.Serve(w.files[1])
		if end := m.Process(sim.Once); end != sim.Rebooted {
			t.Fatalf("no trial was begun: %v", end)
		}
		m.State.Damage("slot-b.json", []byte("{"))
		m.FailAt(call)
		for range 3 {
			m.Process(sim.Once)
		}
		m.Calm()
		s := osStory{name: "lost pointer", world: factoryApps, reached: 0, stage: 1, os: "2"}
		s.settle(m)
		if b := m.Broken(); len(b) > 0 {
			t.Fatalf("call %d fails: %s\n%s", call, b[0], tailOf(m))
		}
		wantApp(t, m, "2")
	}
}
