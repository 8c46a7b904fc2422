package agent_test

import (
	"context"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
)

// A trial copies the data of all its applications after the reboot. That there is no room
// for it is known before, and says nothing against the release.
func TestATrialWhoseDataDoesNotFitIsHeldBeforeTheReboot(t *testing.T) {
	s := osStory{world: bothApps, reached: osFirst, stage: osSecond, os: bothApps().os[osSecond].Manifest.Version.String()}
	m := s.begin(t, 1)
	for _, name := range []string{"web", "db"} {
		_, data := m.Apps.Running(name)
		m.Apps.Room = max(m.Apps.Room, len(data)) // for each of them, not for both
	}
	boots, runs := m.Boots, m.Running()
	for range 4 {
		m.Process(func(a *agent.Agent) {
			if err := a.Once(context.Background()); agent.CodeOf(err) != agent.CodeNoRoom {
				t.Errorf("got %v, want %s", err, agent.CodeNoRoom)
			}
		})
		m.Pass(2 * time.Hour)
	}
	if m.Boots != boots || m.Running() != runs || m.Journal().Phase != agent.Staged {
		t.Fatalf("got phase %s after %d boots, want that it waits\n%s", m.Journal().Phase, m.Boots-boots, tailOf(m))
	}
	if _, denied := m.Denied(m.Releases[osSecond]); denied || len(m.Apps.Data("web")) != 1 {
		t.Errorf("denied: %t, generations %v, want neither a denial nor a new one", denied, m.Apps.Data("web"))
	}
	m.Apps.Room = 0
	s.settle(m)
	if got := m.Running().Manifest.Version.String(); got != s.os || len(m.Broken()) > 0 {
		t.Errorf("with room: got release %s, want %s; broken: %v", got, s.os, m.Broken())
	}
}

func TestAnApplicationWhoseDataDoesNotFitIsNotStopped(t *testing.T) {
	m := appMachine(t, 1, appV1)
	m.Net.Serve(apps().files[appV2])
	m.Apps.Room = 1
	began := len(m.Trace())
	for _, do := range []agent.AppDo{agent.AppUpdate, agent.AppRehearse} {
		if err := changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: do}}); agent.CodeOf(err) != agent.CodeNoRoom {
			t.Errorf("%s: got %v, want %s", do, err, agent.CodeNoRoom)
		}
	}
	m.Process(sim.Once)
	untouched(t, m, "1", began)
	m.Apps.Room = 0
	m.Process(sim.Once) // it was not denied
	wantApp(t, m, "2")
}

// What was given up with releases of the OS alone is dropped with them.
func TestReleasesOfTheOSLeaveNoImagesOfApplications(t *testing.T) {
	s := osStory{world: bothApps, reached: osNoWeb, os: bothApps().os[osNoWeb].Manifest.Version.String()}
	m := s.begin(t, 1)
	for _, app := range bothApps().apps {
		// The slot beside still holds release 3, with version 2 of both.
		v := app.Manifest.Version.String()
		if there := m.Apps.Image(app.Manifest.Image.Root) != nil; there != (v == "2") {
			t.Errorf("image of %s %s: got %t, want those of version 2 alone", app.Manifest.Name, v, there)
		}
	}
}
