package histories

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/release"
)

// shop publishes the applications of a repository: db, which releases of the OS bring, and
// web, which hosts want for itself. Both have versioned data.
type shop struct {
	p       *sim.Publisher
	rng     *rand.Rand
	r       *Repository
	db, web *sim.App // the newest versions
}

func newShop(p *sim.Publisher, rng *rand.Rand, r *Repository) *shop {
	return &shop{p: p, rng: rng, r: r}
}

func (s *shop) app(name, version string, old *sim.App, b sim.Behaviour, format int) (*sim.App, error) {
	made, err := s.p.App(sim.AppSpec{Name: name, Version: version, Image: sim.Edit(sim.Image(2*release.BlockSize, 1), s.rng.Uint64()), From: old,
		Behaviour: b, Format: format, Reads: format + s.rng.IntN(2)})
	if err == nil {
		s.r.Apps = append(s.r.Apps, made)
	}
	return made, err
}

// bundle is what release v of the OS brings: from the second one on db, now and then a new
// version, and where the factory has it, in the first one, too. It is always healthy, as the
// release would not be otherwise.
func (s *shop) bundle(v int, factory bool) (list []*sim.App, err error) {
	if v == 1 && !factory {
		return nil, nil
	}
	if s.db == nil || s.rng.IntN(2) == 0 {
		if s.db, err = s.app("db", fmt.Sprint(v), s.db, sim.Healthy, 1+v/3); err != nil {
			return nil, err
		}
	}
	return []*sim.App{s.db}, nil
}

// publish adds the stages behind release v: none, one or two versions of web. The first
// and the last are healthy.
func (s *shop) publish(v int, final bool) error {
	behaviours := [...]sim.Behaviour{sim.Unhealthy, sim.Flapping, sim.Unbootable, sim.Looping, sim.Healthy, sim.Healthy, sim.Healthy}
	n := s.rng.IntN(3)
	if final || s.web == nil {
		n = max(n, 1)
	}
	for i := range n {
		b := behaviours[s.rng.IntN(len(behaviours))]
		if s.web == nil || final && i == n-1 {
			b = sim.Healthy
		}
		var err error
		if s.web, err = s.app("web", fmt.Sprintf("%d.%d", v, i), s.web, b, 1+v/3); err != nil {
			return err
		}
		last := s.r.Stages[len(s.r.Stages)-1]
		last.Files, last.Web = s.p.Files(), s.web
		s.r.Stages = append(s.r.Stages, last)
	}
	return nil
}

// want makes a machine one that runs the applications of a repository.
func (r *Repository) want(m *sim.Machine) {
	if len(r.Apps) == 0 {
		return
	}
	m.NewApplications(r.Apps...)
	m.Options.Rollout = "all"
	m.Options.Apps.Wanted = []agent.AppWish{{Name: "web", Publisher: sim.AppPublisher}, {Name: "db", Publisher: sim.AppPublisher, Bundled: true}}
}

// ofApp is what an operator asks of an application.
func (l *life) ofApp(arg uint64) *agent.Request {
	if l.m.Apps == nil {
		return nil
	}
	r := &agent.Request{Verb: agent.VerbApp, Reason: "test", App: &agent.AppRequest{Name: "web"}}
	switch arg % 6 {
	case 0:
		r.App.Do = agent.AppUpdate
	case 1:
		r.App.Do, r.App.Data = agent.AppRollback, "keep"
	case 2:
		r.App.Do, r.App.Data = agent.AppRollback, "restore"
	case 3:
		r.App.Do, r.Until = agent.AppHold, l.m.Clock().Now().Add(time.Duration(arg>>8%48)*time.Hour)
	case 4:
		r.App.Do = agent.AppUnhold
	default:
		r.App.Do, r.App.Name = agent.AppRestart, [...]string{"web", "db"}[arg>>8%2]
	}
	return r
}

// endOfApps looks where the applications arrived.
func (l *life) endOfApps() {
	if l.m.Apps == nil {
		return
	}
	last := l.repo.Stages[len(l.repo.Stages)-1]
	if l.m.Running() == last.Wants {
		// What a release names runs with it, whether the factory's had it or not.
		for _, named := range last.Wants.Manifest.Apps {
			if got, _ := l.m.Apps.Running(named.Name); got != named.Version {
				l.m.Break("law 13: version %q of %s runs in the end, and release %s names %s", got, named.Name, last.Wants.Manifest.Version, named.Version)
			}
		}
	}
	want := last.Web
	for _, d := range l.m.Denials() {
		if d == want.Digest {
			return
		}
	}
	if got, _ := l.m.Apps.Running("web"); got != want.Manifest.Version.String() {
		l.m.Break("law 13: version %q of web runs in the end, want %s", got, want.Manifest.Version)
	}
}

// freeApps takes back what an operator said of applications.
func (l *life) freeApps(a *agent.Agent) {
	if l.m.Apps != nil {
		_, _ = a.Do(context.Background(), agent.Request{Verb: agent.VerbApp, App: &agent.AppRequest{Do: agent.AppUnhold, Name: "web"}}, nil)
	}
}
