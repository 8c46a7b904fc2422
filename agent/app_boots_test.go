package agent_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

// downs is a world whose second version of an application takes the machine down: in the
// place of the first, and beside it.
var downs = [2]func() *appWorld{
	sync.OnceValue(func() *appWorld { return newDowns(nil) }),
	sync.OnceValue(func() *appWorld {
		return newDowns(func(m *release.AppManifest) { m.Data, m.Update.Strategy = nil, "parallel" })
	}),
}

func newDowns(change func(*release.AppManifest)) *appWorld {
	const size = 4 << 12
	w := newAppWorld(size)
	w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	image := sim.Image(4<<12, 7)
	one := w.stage(w.app(sim.AppSpec{Name: "web", Version: "1", Image: image, Format: 1, Change: change}))
	w.stage(w.app(sim.AppSpec{Name: "web", Version: "2", Image: sim.Edit(image, 3), From: one, Format: 1, Behaviour: sim.Unbootable, Change: change}))
	w.release(sim.Spec{Version: "2", Images: map[string][]byte{"root": sim.Image(size, 2)}})
	w.stage(nil)
	return w.appWorld
}

// goDown lets the machine run on until its applications rest, and returns how often one of
// them has taken it down.
func goDown(m *sim.Machine) (times int) {
	m.KeepsPanic = func() bool {
		times++
		return true
	}
	for range 12 {
		end := m.Process(sim.Once)
		m.Pass(2 * time.Hour)
		if web, _ := m.Apps.Running("web"); end == sim.Returned && web == "1" && !m.Pending() {
			break
		}
	}
	return times
}

func TestAnApplicationThatTakesTheMachineDownIsLeftAfterItsTries(t *testing.T) {
	for i, name := range []string{"in its place", "beside it"} {
		t.Run(name, func(t *testing.T) {
			w := downs[i]()
			m := machineIn(t, w, "web", 1, 0)
			wantApp(t, m, "1")
			_, before := m.Apps.Running("web")
			kept := string(before)
			m.Net.Serve(w.files[1])
			if got := goDown(m); got != 3 {
				t.Errorf("the machine went down %d times, want 3", got)
			}
			wantApp(t, m, "1")
			if _, after := m.Apps.Running("web"); !strings.HasPrefix(string(after), kept) || strings.Contains(string(after), "2") {
				t.Errorf("data: got %q, want %q and what version 1 wrote since", after, kept)
			}
			h := &history{m: m}
			list := h.ask(t, agent.VerbHistory).History
			last := list[len(list)-1]
			if last.App != "web" || last.Result != "rolled-back" || last.Code != agent.CodeTrialLost || len(last.Kernel) != 2 || !strings.HasPrefix(last.Text, "3 boots ended") {
				t.Errorf("history: got %+v", last)
			}
			if d := h.ask(t, agent.VerbStatus).Status.Denied; len(d) != 1 || d[0].App != "web" || d[0].Code != agent.CodeTrialLost {
				t.Errorf("denied: got %+v", d)
			}
			m.Restart(sim.Rebooted)
			if got := goDown(m); got != 0 {
				t.Errorf("denied, it took the machine down %d times more", got)
			}
			m.QuietWhenIdle()
			wantApp(t, m, "1")
		})
	}
}

// The journal that counts the boots of a trial rots: what is on trial is not taken for what
// was committed, or the machine would go down for ever.
func TestATrialWhoseJournalIsLostGoesBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		stage int
	}{{"alone", 1}, {"while a release of the OS waits for it", 2}} {
		t.Run(c.name, func(t *testing.T) {
			m := machineIn(t, downs[0](), "web", 1, 0)
			_, before := m.Apps.Running("web")
			kept := string(before)
			m.KeepsPanic = func() bool { return true }
			for stage := 1; stage <= c.stage; stage++ {
				m.Net.Serve(downs[0]().files[stage])
				if end := m.Process(sim.Once); end == sim.Returned {
					t.Fatalf("the machine did not go down\n%s", tailOf(m))
				}
			}
			m.State.Below("apps").Damage("journal.json", []byte("{"))
			if got := goDown(m); got > 3 {
				t.Errorf("the machine went down %d times more, want at most 3", got)
			}
			wantApp(t, m, "1")
			if _, after := m.Apps.Running("web"); !strings.HasPrefix(string(after), kept) || strings.Contains(string(after), "2") {
				t.Errorf("data: got %q, want %q and what version 1 wrote since", after, kept)
			}
		})
	}
}

// A healthy version whose trial the power ends twice is not held against it.
func TestAnApplicationWhoseTrialIsCutTwiceIsCommitted(t *testing.T) {
	update := func(first, second int) (effects int) {
		m := appMachine(t, 1, appV1)
		m.Net.Serve(apps().files[appV2])
		start := m.Effects()
		for _, n := range []int{first, second, 0, 0} {
			m.Calm()
			if n > 0 {
				m.CutAt(n, sim.PowerCut)
			}
			m.Process(sim.Once)
			m.Pass(2 * time.Hour)
		}
		wantApp(t, m, "2")
		return m.Effects() - start
	}
	effects := update(0, 0)
	for first := effects / 2; first <= effects; first += stride(1) {
		for second := 1; second < 6; second++ {
			update(first, second)
		}
	}
}

func TestATrialThatTakesTheMachineDownEndsThroughEverySingleFault(t *testing.T) {
	for i, name := range []string{"in its place", "beside it"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := downs[i]()
			everyFault(t, func(f appFault) (effects, calls int) {
				m := machineIn(t, w, "web", uint64(f.n), 0)
				_, before := m.Apps.Running("web")
				kept := string(before)
				m.Net.Serve(w.files[1])
				f.strike(m)
				start, called := m.Effects(), m.Calls()
				goDown(m)
				effects, calls = m.Effects()-start, m.Calls()-called
				m.Calm()
				if times := goDown(m); times > 3 {
					t.Errorf("%s: the machine went down %d times", f, times)
				}
				wantApp(t, m, "1")
				_, after := m.Apps.Running("web")
				if !strings.HasPrefix(string(after), kept) || strings.Contains(string(after), "2") {
					t.Fatalf("%s: data: got %q, want %q and what version 1 wrote since", f, after, kept)
				}
				return effects, calls
			})
		})
	}
}
