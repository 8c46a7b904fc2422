package agent_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// leaves is a world with two versions of web, and more of aux, which is updated meanwhile.
var leaves = sync.OnceValue(func() *appWorld {
	const size = 4 << 12
	w := newAppWorld(size)
	w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	for i, name := range []string{"web", "web", "aux", "aux", "aux"} {
		version := []string{"1", "2", "1", "2", "3"}[i]
		w.stage(w.app(sim.AppSpec{Name: name, Version: version, Image: sim.Image(3<<12, uint64(2+i)), Format: 1, Reads: 1}))
	}
	return w.appWorld
})

// wanting makes a host want these applications and those only.
func wanting(m *sim.Machine, stage int, names ...string) {
	m.Options.Apps.Wanted = nil
	for _, name := range names {
		m.Options.Apps.Wanted = append(m.Options.Apps.Wanted, agent.AppWish{Name: name, Publisher: sim.AppPublisher})
	}
	m.Net.Serve(leaves().files[stage])
	m.Process(sim.Once)
}

// left is a machine on which web 1 and then 2 ran, and which wants it no more. It returns the
// generations of its data, of which the last one is what it would go on with.
func left(t *testing.T) (*sim.Machine, []string) {
	m := bareMachine(t, leaves(), 1)
	m.Options.Rollout = "all"
	wanting(m, 0, "web")
	wanting(m, 1, "web")
	wantApp(t, m, "2")
	wanting(m, 1, "aux")
	wantApp(t, m, "")
	return m, slices.Sorted(maps.Keys(m.Apps.Data("web")))
}

func dropWeb(m *sim.Machine, generation string) (err error) {
	m.Process(func(a *agent.Agent) {
		r := agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppDataDrop, Name: "web", Generation: generation}}
		_, err = a.Do(context.Background(), r, nil)
	})
	return err
}

// cameBack checks that web 2 runs, and that no law was broken but by who dropped its data.
func cameBack(t *testing.T, m *sim.Machine, dropped string) {
	t.Helper()
	if web, _ := m.Apps.Running("web"); web != "2" {
		t.Errorf("web %q runs, want 2\n%s", web, tailOf(m))
	}
	for _, law := range m.Broken() {
		if !strings.Contains(law, "data web/"+dropped+" is gone") {
			t.Error(law)
		}
	}
}

// What a removed application wrote last is kept for as long as the host can go back to a set
// with it, and then until somebody drops it: it begins anew when it comes back, and goes on
// with its data when something older was dropped.
func TestTheDataOfARemovedApplicationIsDroppedByHandAlone(t *testing.T) {
	for _, last := range []bool{true, false} {
		t.Run(fmt.Sprintf("last %t", last), func(t *testing.T) {
			t.Parallel()
			m, made := left(t)
			if len(made) != 2 {
				t.Fatalf("generations: got %v, want two", made)
			}
			drop := made[0]
			if last {
				drop = made[1]
			}
			was := string(m.Apps.Data("web")[made[1]])
			if err := dropWeb(m, made[1]); agent.CodeOf(err) != agent.CodeUsage || !strings.Contains(err.Error(), "can be gone back to") {
				t.Errorf("while a set with it can be gone back to: got %v, want a refusal", err)
			}
			for stage := 2; stage <= 4; stage++ { // other sets take the place of those with it
				wanting(m, stage, "aux")
			}
			if got := slices.Sorted(maps.Keys(m.Apps.Data("web"))); !slices.Contains(got, made[1]) {
				t.Fatalf("generations after other updates: got %v, want %s still", got, made[1])
			}
			if _, there := m.Apps.Data("web")[drop]; there {
				if err := dropWeb(m, drop); err != nil {
					t.Fatal(err)
				}
			}
			if _, there := m.Apps.Data("web")[drop]; there {
				t.Errorf("generation %s is there still", drop)
			}
			wanting(m, 4, "aux", "web")
			cameBack(t, m, drop)
			if _, now := m.Apps.Running("web"); strings.HasPrefix(string(now), was) == last {
				t.Errorf("web came back with %q after it had written %q", now, was)
			}
		})
	}
}

// A cut leaves data that is whole, or an application that begins anew: never one that waits
// for data which is no more.
func TestADropThatIsCutLeavesAnApplicationThatComesBack(t *testing.T) {
	for n := 1; ; n++ {
		m, made := left(t)
		for stage := 2; stage <= 4; stage++ {
			wanting(m, stage, "aux")
		}
		m.CutAt(n, sim.PowerCut)
		_ = dropWeb(m, made[1])
		done := m.Pending() // there was no nth effect
		m.Calm()
		wanting(m, 4, "aux", "web")
		cameBack(t, m, made[1])
		if done {
			t.Logf("%d effects", n-1)
			return
		}
	}
}
