package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// lacking is a host that cannot run a version of web; it says so from the nth question on.
func lacking(m *sim.Machine, version string, from int) {
	asked := 0
	m.Options.Apps.Ready = func(_ context.Context, mf *release.AppManifest) ([]string, error) {
		if mf.Version.String() != version {
			return []string{"an old runtime"}, nil
		}
		if asked++; asked < from {
			return nil, nil
		}
		return nil, fmt.Errorf("isolation: %w: level sandbox, which is never lowered: runsc: not found in /bin", workloads.ErrMissing)
	}
}

// change makes a request about web and returns what came of it.
func changeWeb(t *testing.T, m *sim.Machine, r agent.Request) error {
	t.Helper()
	var err error
	r.Verb, r.App.Name = agent.VerbApp, "web"
	m.Process(func(a *agent.Agent) { _, err = a.Do(context.Background(), r, nil) })
	return err
}

// untouched checks that nothing of what runs was touched since the trace had so many lines.
func untouched(t *testing.T, m *sim.Machine, version string, began int) {
	t.Helper()
	wantApp(t, m, version)
	if i := slices.IndexFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, "stop app") || strings.Contains(l, "start app") }); i >= 0 {
		t.Errorf("what runs was touched: %s\n%s", m.Trace()[began+i], tailOf(m))
	}
}

func missing(t *testing.T, err error) {
	t.Helper()
	if agent.CodeOf(err) != agent.CodeIncompatible || !strings.Contains(fmt.Sprint(err), "level sandbox, which is never lowered: runsc: not found in") {
		t.Errorf("got %v, want a refusal that says what is missing", err)
	}
}

func TestWhatTheHostCannotRunIsRefusedBeforeItIsFetched(t *testing.T) {
	m := appMachine(t, 1, appV1)
	m.Net.Serve(apps().files[appV2])
	lacking(m, "2", 1)
	began := len(m.Trace())
	m.Process(sim.Once) // by itself
	missing(t, changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}, Force: true}))
	untouched(t, m, "1", began)
	root := apps().apps[1].Manifest.Image.Root.String()
	if slices.ContainsFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, root) || strings.Contains(l, root[:12]) }) {
		t.Errorf("the image was fetched\n%s", tailOf(m))
	}
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: "web"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := r.Apps.Apps[0]
		if !slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return strings.Contains(r.Text, "runsc: not found in") }) || !slices.Equal(s.Notes, []string{"an old runtime"}) {
			t.Errorf("why: got %+v and notes %v, want what is missing for version 2, and what is known of 1", s.Reasons, s.Notes)
		}
	})
	m.Options.Apps.Ready = nil // it was installed
	m.Process(sim.Once)
	wantApp(t, m, "2")
}

// What was there when the update began may go away while the image is fetched.
func TestWhatTheHostCanNoLongerRunIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	for name, c := range map[string]struct {
		force bool
		from  int
	}{"by itself": {false, 2}, "just before the old version stops": {true, 2}} {
		t.Run(name, func(t *testing.T) {
			m := appMachine(t, 1, appV1)
			m.Net.Serve(apps().files[appV2])
			lacking(m, "2", c.from)
			began := len(m.Trace())
			missing(t, changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}, Force: c.force}))
			m.Process(sim.Once)
			untouched(t, m, "1", began)
		})
	}
}

// A device that is unplugged at the wrong moment says nothing against a version.
func TestWhatIsTakenOrUnpluggedNowHoldsAVersionAndDoesNotDenyIt(t *testing.T) {
	for from := 1; from <= 4; from++ {
		m := appMachine(t, 1, appV1)
		m.Net.Serve(apps().files[appV2])
		asked := 0
		m.Options.Apps.Free = func(_ context.Context, mf *release.AppManifest, _ []string) error {
			if mf.Version.String() != "2" {
				return nil
			}
			if asked++; asked < from {
				return nil
			}
			return fmt.Errorf("permission device: %w: /dev/ttyUSB0", workloads.ErrMissing)
		}
		began := len(m.Trace())
		err := changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}})
		if err == nil {
			t.Logf("asked %d times before the old version was stopped", asked)
			if from <= 2 {
				t.Errorf("from question %d on: it was not asked", from)
			}
			continue
		}
		if agent.CodeOf(err) != agent.CodeIncompatible || !strings.Contains(err.Error(), "/dev/ttyUSB0") {
			t.Errorf("from question %d on: got %v, want a refusal that names the device", from, err)
		}
		m.Process(sim.Once)
		untouched(t, m, "1", began)
		m.Options.Apps.Free = nil // it is plugged in
		m.Process(sim.Once)
		wantApp(t, m, "2")
	}
}

func TestNeitherARollbackNorARestartStopsWhatCouldNotBeStartedAgain(t *testing.T) {
	m := appMachine(t, 1, appV1, appV2)
	wantApp(t, m, "2")
	lacking(m, "1", 1)
	began := len(m.Trace())
	missing(t, changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppRollback, Data: "restore"}}))
	untouched(t, m, "2", began)
	lacking(m, "2", 1)
	missing(t, changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppRestart}}))
	untouched(t, m, "2", began)
	m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbDoctor}, nil)
		if err != nil || !slices.ContainsFunc(r.Doctor, func(f agent.Finding) bool { return strings.Contains(f.Text, "app web 2 cannot run on this host") }) {
			t.Errorf("doctor: got %+v, %v, want a word on web", r.Doctor, err)
		}
	})
}

func TestAReleaseWhoseApplicationsTheHostCannotRunIsNotStaged(t *testing.T) {
	s := osStory{world: bothApps, reached: osFirst, stage: osSecond, os: bothApps().os[osSecond].Manifest.Version.String()}
	m := s.begin(t, 1)
	m.Options.Apps.Ready = func(context.Context, *release.AppManifest) ([]string, error) {
		return nil, errors.Join(workloads.ErrMissing)
	}
	before := m.Running()
	for range 4 {
		m.Process(sim.Once)
	}
	if m.Running() != before || m.OnTrial() || m.Journal().Phase == agent.Armed {
		t.Errorf("got phase %s, want that the release is refused\n%s", m.Journal().Phase, tailOf(m))
	}
	m.Options.Apps.Ready = nil
	s.settle(m)
	if got := m.Running().Manifest.Version.String(); got != s.os {
		t.Errorf("once it can: got release %s, want %s", got, s.os)
	}
}

// A host may want more isolation of every application than a manifest asks for. What runs
// already goes on until it ends.
func TestWhatAsksForLessIsolationThanTheHostWantsIsRefused(t *testing.T) {
	m := appMachine(t, 1, appV1)
	m.Net.Serve(apps().files[appV2])
	m.Options.Apps.Isolation = "sandbox"
	const text = "asks for isolation level container, and this host runs nothing below level sandbox"
	began := len(m.Trace())
	m.Process(sim.Once) // by itself
	err := changeWeb(t, m, agent.Request{App: &agent.AppRequest{Do: agent.AppUpdate}, Force: true})
	if agent.CodeOf(err) != agent.CodeIncompatible || !strings.Contains(err.Error(), "web 2 "+text) {
		t.Errorf("update: got %v, want %q in it", err, text)
	}
	untouched(t, m, "1", began)
	root := apps().apps[1].Manifest.Image.Root.String()
	if slices.ContainsFunc(m.Trace()[began:], func(l string) bool { return strings.Contains(l, root) || strings.Contains(l, root[:12]) }) {
		t.Errorf("the image was fetched\n%s", tailOf(m))
	}
	why := func() (a agent.AppStatus) {
		m.Process(func(a2 *agent.Agent) {
			sim.Once(a2)
			r, err := a2.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: "web"}}, nil)
			if err != nil || len(r.Apps.Apps) != 1 {
				t.Fatalf("why: got %+v, %v", r.Apps, err)
			}
			a = r.Apps.Apps[0]
		})
		if !slices.ContainsFunc(a.Reasons, func(r agent.Reason) bool { return r.Code == agent.CodeIncompatible && strings.Contains(r.Text, text) }) {
			t.Errorf("why: got %+v, want %q", a.Reasons, text)
		}
		return a
	}
	if a := why(); a.State != "running" {
		t.Errorf("before the next boot: got %s, want that it goes on", a.State)
	}
	m.Restart(sim.Rebooted)
	if a := why(); a.State != "failed" {
		t.Errorf("after the next boot: got %s, want that it is not started", a.State)
	}
	wantApp(t, m, "")
	for _, level := range []string{"vm", "container"} {
		m.Options.Apps.Isolation = level
		m.Process(sim.Once)
		if web, _ := m.Apps.Running("web"); (web != "") != (level == "container") {
			t.Errorf("on a host that wants level %s web %q runs", level, web)
		}
	}
}
