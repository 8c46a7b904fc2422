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

// bundle is a world in which releases of the OS bring applications, all of which have
// data: web, whose versions read their own format alone, and db, which reads the next
// one, too. Without web, it is db alone.
func bundle(web bool) *appWorld {
	const size = 6 << 12
	w := newAppWorld(size)
	app := func(name, version string, format, reads int) *sim.App {
		return w.app(sim.AppSpec{Name: name, Version: version, Image: sim.Image(3<<12, uint64(len(w.apps))), Format: format, Reads: reads})
	}
	web1, web2 := app("web", "1", 1, 1), app("web", "2", 2, 2)
	db1, db2 := app("db", "1", 1, 2), app("db", "2", 2, 2)
	image := sim.Image(size, 1)
	for i, s := range []sim.Spec{
		{}, {Apps: []*sim.App{db1, web1}}, {Apps: []*sim.App{db2, web2}}, {Apps: []*sim.App{db2}}, {Apps: []*sim.App{db2}, Behaviour: sim.Unhealthy},
		{Apps: []*sim.App{db2, web2}, Behaviour: sim.Unhealthy},
	} {
		s.Version, s.Images = fmt.Sprint(i+1), map[string][]byte{"root": sim.Edit(image, uint64(i))}
		if !web {
			s.Apps = slices.DeleteFunc(s.Apps, func(a *sim.App) bool { return a.Manifest.Name == "web" })
		}
		if w.os != nil {
			s.From = w.os[len(w.os)-1:]
		}
		w.release(s)
		w.stage(nil)
	}
	return w.appWorld
}

var (
	bothApps = sync.OnceValue(func() *appWorld { return bundle(true) })
	dbAlone  = sync.OnceValue(func() *appWorld { return bundle(false) })
)

// The releases of a bundle, as stages and as indices.
const (
	osBare     = iota
	osFirst    // with web 1 and db 1
	osSecond   // with web 2 and db 2
	osNoWeb    // with db 2
	osNoWebBad // the same, whose health fails
	osBad      // with web 2 and db 2, and its health fails
)

// osStory is what becomes of applications when slots change under them.
type osStory struct {
	name  string
	world func() *appWorld
	// reached is the release that the machine runs, committed, when the story begins, and
	// stage the one that the server has then.
	reached, stage int
	// dies says that the committed release can no longer be loaded.
	dies bool
	// data is how the operator goes back; "": nobody does.
	data string
	os   string            // version that runs in the end
	apps map[string]string // versions that run in the end; "": held, or not there
	// goesOn are the apps whose data is that of the beginning and what was written since;
	// the data of the others holds nothing that version 2 wrote.
	goesOn []string
	// rejected is what the data of those holds no word of: what a trial wrote that failed.
	rejected string
	// more is how often a process of the agent goes on after its first round.
	more int
}

var osStories = []osStory{
	{"committed slot that dies", bothApps, osSecond, osSecond, true, "", "2", map[string]string{"web": "", "db": "1"}, []string{"db"}, "", 0},
	{"rollback with the data of then", bothApps, osSecond, osSecond, false, "restore", "2", map[string]string{"web": "1", "db": "1"}, nil, "", 0},
	{"rollback with the data of today", dbAlone, osSecond, osSecond, false, "keep", "2", map[string]string{"db": "1"}, []string{"db"}, "", 0},
	{"release without the app", bothApps, osSecond, osNoWeb, false, "", "4", map[string]string{"web": "", "db": "2"}, []string{"db"}, "", 0},
	{"release without the app that fails", bothApps, osSecond, osNoWebBad, false, "", "3", map[string]string{"web": "2", "db": "2"}, []string{"web", "db"}, "", 0},
	// What falls back is older than what was tried, and db 1 could read what db 2 wrote.
	{"release with newer apps that fails", bothApps, osFirst, osBad, false, "", "2", map[string]string{"web": "1", "db": "1"}, []string{"web", "db"}, "2", 0},
	{"disk of the factory", factoryApps, 0, 0, false, "", "1", map[string]string{"web": "1"}, []string{"web"}, "", 0},
	{"disk of the factory, and a release", factoryApps, 0, 1, false, "", "2", map[string]string{"web": "2"}, []string{"web"}, "", 0},
}

// begin makes the machine and brings it to where the story begins.
func (s osStory) begin(t *testing.T, seed uint64) *sim.Machine {
	t.Helper()
	w := s.world()
	m := bareMachine(t, w, seed)
	for _, name := range []string{"web", "db"} {
		m.Options.Apps.Wanted = append(m.Options.Apps.Wanted, agent.AppWish{Name: name, Publisher: sim.AppPublisher, Bundled: true})
	}
	m.Options.Rollout = "directive"
	for stage := osFirst; stage <= s.reached; stage++ {
		m.Net.Serve(w.files[stage])
		want := osStory{os: w.os[stage].Manifest.Version.String(), apps: map[string]string{}}
		want.settle(m)
		if got := m.Running(); got == nil || got.Manifest.Version.String() != want.os {
			t.Fatalf("release %s does not run\n%s", want.os, tailOf(m))
		}
	}
	m.Net.Serve(w.files[s.stage])
	if s.dies {
		m.Running().Behaviour = sim.Unloadable
	}
	return m
}

// settle lets the machine run, boot after boot, until the story has come to its end: a
// round that changes nothing.
func (s osStory) settle(m *sim.Machine) {
	for range 16 {
		before := m.Effects()
		end := m.Process(func(a *agent.Agent) {
			if s.data != "" && m.Running().Manifest.Version.String() != s.os && m.Journal().Phase == agent.Idle {
				_, _ = a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback, Data: s.data}, nil)
			}
			for range 1 + s.more {
				sim.Once(a)
			}
		})
		if r := m.Running(); end == sim.Returned && m.Effects() == before && r != nil && r.Manifest.Version.String() == s.os && !m.OnTrial() {
			return
		}
		if !m.OnTrial() {
			m.Pass(2 * time.Hour)
		}
	}
}

// play lives through the story with at most one fault.
func (s osStory) play(t *testing.T, f appFault) (effects, calls int) {
	t.Helper()
	return s.playIn(t, uint64(f.n), f)
}

// playIn is play in the world of a seed.
func (s osStory) playIn(t *testing.T, seed uint64, f appFault) (effects, calls int) {
	t.Helper()
	m := s.begin(t, seed)
	kept := map[string]string{}
	for name := range s.apps {
		_, data := m.Apps.Running(name)
		kept[name] = string(data)
	}
	if s.dies {
		m.Restart(sim.Rebooted)
	}
	f.strike(m)
	start, called := m.Effects(), m.Calls()
	s.settle(m)
	effects, calls = m.Effects()-start, m.Calls()-called
	m.Calm()
	s.settle(m)
	say := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s: %s\n%s", f, fmt.Sprintf(format, args...), tailOf(m))
	}
	if len(m.Broken()) > 0 {
		say("%s", strings.Join(m.Broken(), "\n"))
	}
	if got := m.Running(); got == nil || got.Manifest.Version.String() != s.os {
		say("got %s, want release %s", got, s.os)
	}
	for name, want := range s.apps {
		got, b := m.Apps.Running(name)
		data := string(b)
		switch {
		case got != want:
			say("app %s: got version %q, want %q", name, got, want)
		case want == "":
			// What it wrote is there.
			there := false
			for _, content := range m.Apps.Data(name) {
				there = there || strings.HasPrefix(content, kept[name])
			}
			if !there {
				say("app %s, which is held: data: got %q, want one that begins with %q", name, m.Apps.Data(name), kept[name])
			}
		case slices.Contains(s.goesOn, name) && !strings.HasPrefix(data, kept[name]):
			say("app %s: data: got %q, want %q and what was written since", name, data, kept[name])
		case s.rejected != "" && strings.Contains(data, s.rejected):
			say("app %s: data: got %q, with what version %s wrote in a trial that failed", name, data, s.rejected)
		case !slices.Contains(s.goesOn, name) && strings.Contains(data, "2"):
			say("app %s: data: got %q, which version 2 wrote", name, data)
		}
	}
	return effects, calls
}

func TestApplicationsFollowTheSlotsThroughEverySingleFault(t *testing.T) {
	for _, s := range osStories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			everyFault(t, func(f appFault) (effects, calls int) { return s.play(t, f) })
		})
	}
}

// The one fault that decides whether an adoption is settled: its pointer is renamed, and
// whether that lasts is not known. Half of the worlds take it back at the next boot.
func TestAnAdoptionWhosePointerMayNotLastIsMadeToLast(t *testing.T) {
	s := osStories[0]
	m := s.begin(t, 1)
	m.Restart(sim.Rebooted)
	start := len(m.Trace())
	s.settle(m)
	sync, calls, renamed := 0, 0, false
	for _, line := range m.Trace()[start:] {
		if strings.Contains(line, " starts with ") {
			continue // no call, but a remark
		}
		calls++
		if renamed && strings.Contains(line, "sync directory state") {
			sync = calls // the last one is that of the adoption
		}
		renamed = strings.Contains(line, "rename state/slot-b.json")
	}
	if sync == 0 {
		t.Fatalf("no pointer was turned\n%s", tailOf(m))
	}
	for seed := range uint64(8) {
		for s.more = range 2 { // this process goes on, or another one comes
			s.playIn(t, seed, appFault{sync, sim.Lost, sim.Returned})
		}
	}
}

func TestAnApplicationThatAFallbackHoldsSaysHowToGoOn(t *testing.T) {
	s := osStories[0]
	m := s.begin(t, 1)
	m.Restart(sim.Rebooted)
	s.settle(m)
	var advice []string
	m.Process(func(a *agent.Agent) {
		sim.Once(a)
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbApps, App: &agent.AppRequest{Do: agent.AppWhy, Name: "web"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range r.Apps.Apps[0].Reasons {
			if _, command, ok := strings.Cut(reason.Text, "twinkeel app data restore "); ok && reason.Code == agent.CodeDataFormat {
				advice = strings.Fields(command)
			}
		}
		if len(advice) != 2 {
			t.Fatalf("reasons: got %+v, want %s and what to do", r.Apps.Apps[0].Reasons, agent.CodeDataFormat)
		}
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppDataRestore, Name: advice[0], Generation: advice[1]}}, nil)
		if err != nil {
			t.Fatal(err)
		}
	})
	if got, data := m.Apps.Running("web"); got != "1" || strings.Contains(string(data), "2") || !strings.HasPrefix(string(data), "1") {
		t.Errorf("web: got version %q on %q, want 1 on what it wrote itself", got, data)
	}
	if b := m.Broken(); len(b) > 0 {
		t.Errorf("laws were broken: %s", strings.Join(b, "\n"))
	}
}
