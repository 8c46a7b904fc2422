package agent_test

import (
	"context"
	"strings"
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

// crawling is data whose copies take longer than any trial, but end when they have to.
type crawling struct {
	agent.AppData
	m       *sim.Machine
	endless bool // one that nobody ended was begun
}

// Clone implements agent.AppData.
func (c *crawling) Clone(ctx context.Context, app, from, to string) error {
	if from == "" || c.m.Apps.Data(app)[to] != "" {
		return c.AppData.Clone(ctx, app, from, to)
	}
	end, limited := ctx.Deadline()
	c.endless = c.endless || !limited || time.Until(end) > sim.Deadline
	c.m.Pass(sim.Deadline)
	return context.DeadlineExceeded
}

// The estimate was wrong: the trial ends all the same, and the machine goes back.
func TestATrialWhoseDataTakesTooLongEnds(t *testing.T) {
	s := osStory{world: bothApps, reached: osFirst, stage: osSecond, os: bothApps().os[osFirst].Manifest.Version.String()}
	m := s.begin(t, 1)
	_, data := m.Apps.Running("web")
	was := string(data)
	slow := &crawling{AppData: m.Options.Apps.Data, m: m}
	m.Options.Apps.Data = slow
	boots := m.Boots
	s.settle(m)
	for range 4 {
		m.Process(sim.Once)
		m.Pass(2 * time.Hour)
	}
	_, denied := m.Denied(m.Releases[osSecond])
	if got := m.Running().Manifest.Version.String(); got != s.os || !denied || m.Boots == boots {
		t.Errorf("release %s runs, denied: %t, after %d boots; want %s, and that the other one was tried and left", got, denied, m.Boots-boots, s.os)
	}
	if web, data := m.Apps.Running("web"); web != "1" || !strings.HasPrefix(string(data), was) {
		t.Errorf("web %q runs on %q, want 1 on %q", web, data, was)
	}
	if slow.endless || len(m.Broken()) > 0 {
		t.Errorf("a copy without an end: %t; broken: %v", slow.endless, m.Broken())
	}
}

// The estimate was wrong: the update of an application ends all the same, and the old version
// runs on its own data. The disk is no fault of the new one's; but it is as slow at the next
// poll, and the application does not stand still for it each time.
func TestAnUpdateWhoseDataTakesTooLongEnds(t *testing.T) {
	m := appMachine(t, 1, appV1)
	m.Net.Serve(apps().files[appV2])
	whole := m.Options.Apps.Data
	slow := &crawling{AppData: whole, m: m}
	m.Options.Apps.Data = slow
	stops := func() int { return strings.Count(strings.Join(m.Trace(), "\n"), "stop app web") }
	was := stops()
	m.Process(func(a *agent.Agent) {
		for range 4 {
			if err := a.Once(context.Background()); err != nil && agent.CodeOf(err) != agent.CodeNoRoom {
				t.Errorf("got %v", err)
			}
			m.Pass(2 * time.Hour)
		}
		wantApp(t, m, "1")
		if got := stops() - was; got != 1 || slow.endless {
			t.Errorf("stopped %d times, a copy without an end: %t; want once, and none", got, slow.endless)
		}
		update := agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Name: "web", Do: agent.AppUpdate}}
		if _, err := a.Do(context.Background(), update, nil); agent.CodeOf(err) != agent.CodeNoRoom || !strings.Contains(err.Error(), "longer than 2m0s") {
			t.Errorf("by hand: got %v, want %s and why", err, agent.CodeNoRoom)
		}
		wantApp(t, m, "1")
		m.Options.Apps.Data = whole
		if _, err := a.Do(context.Background(), update, nil); err != nil { // it was not denied
			t.Errorf("by hand, on another disk: %v", err)
		}
	})
	wantApp(t, m, "2")
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
