package agent_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// What a version wrote that was left outlives what was merely superseded, and the images
// of what runs and of what can be gone back to are all that stays.
func TestWhatIsKeptOfApplicationsIsWhatSomebodyMayWant(t *testing.T) {
	const size = 4 << 12
	w := newAppWorld(size)
	w.release(sim.Spec{Version: "1", Images: map[string][]byte{"root": sim.Image(size, 1)}})
	for i, b := range []sim.Behaviour{sim.Healthy, sim.Unhealthy, sim.Healthy, sim.Healthy, sim.Healthy} {
		w.stage(w.app(sim.AppSpec{Name: "web", Version: fmt.Sprint(i + 1), Image: sim.Image(3<<12, uint64(2+i)), Format: 1, Behaviour: b}))
	}
	m := machineIn(t, w.appWorld, "web", 1, 0, 1)
	wantApp(t, m, "1")
	m.Options.Apps.Keep = 1
	rejected := func() (names []string) {
		m.Process(func(a *agent.Agent) {
			r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppDataList}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Apps.Data {
				if strings.Contains(p.Text, "web 2") {
					names = append(names, p.Generation)
				}
			}
		})
		return names
	}
	before := rejected()
	if len(before) != 1 {
		t.Fatalf("rejected data: got %v, want that of version 2", before)
	}
	for stage := 2; stage < 5; stage++ {
		m.Net.Serve(w.files[stage])
		m.Process(sim.Once)
		wantApp(t, m, fmt.Sprint(stage+1))
	}
	if got := rejected(); !slices.Equal(got, before) {
		t.Errorf("rejected data: got %v, want %v still: what was superseded goes first", got, before)
	}
	if got := len(m.Apps.Data("web")); got > 3 {
		t.Errorf("got generations %v, want those of two versions and one that is parked", m.Apps.Data("web"))
	}
	for i, app := range w.apps {
		if there := m.Apps.Image(app.Manifest.Image.Root) != nil; there != (i >= 3) {
			t.Errorf("image of web %s: got %t, want the last two alone", app.Manifest.Version, there)
		}
	}
}
