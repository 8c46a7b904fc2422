package agent_test

import (
	"context"
	"os"
	"testing"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/signing"
)

// appWorld is a repository with one release of the OS and versions of an application; the
// files grow from one stage to the next.
type appWorld struct {
	root     []byte
	size     int64
	os       []*sim.Release
	apps     []*sim.App
	files    []map[string][]byte // after each publication
	verdicts signing.Verdicts
}

// worldBuilder publishes an appWorld. It panics: a world is made once, for many tests.
type worldBuilder struct {
	*appWorld
	p *sim.Publisher
}

// newAppWorld begins one whose images of the OS have size bytes.
func newAppWorld(size int64) worldBuilder {
	dir, err := os.MkdirTemp("", "keys")
	must(err)
	p, err := sim.NewPublisher(dir, noon.AddDate(1, 0, 0))
	must(err)
	must(os.RemoveAll(dir))
	return worldBuilder{&appWorld{root: p.Root(), size: size + 256<<10}, p}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// release publishes one of the OS and directs the channel to it.
func (w worldBuilder) release(s sim.Spec) *sim.Release {
	r, err := w.p.Release(s)
	must(err)
	must(w.p.Direct(r, nil))
	w.os = append(w.os, r)
	return r
}

func (w worldBuilder) app(s sim.AppSpec) *sim.App {
	a, err := w.p.App(s)
	must(err)
	w.apps = append(w.apps, a)
	return a
}

// stage ends a stage, with the application that was published last, if there was one.
func (w worldBuilder) stage(a *sim.App) *sim.App {
	w.files = append(w.files, w.p.Files())
	return a
}

// machineIn is appMachine in another world, for its application called name.
func machineIn(t testing.TB, w *appWorld, name string, seed uint64, installed ...int) *sim.Machine {
	t.Helper()
	m := bareMachine(t, w, seed)
	m.Options.Apps.Wanted = []agent.AppWish{{Name: name, Publisher: sim.AppPublisher}}
	m.Options.Rollout = "all"
	for _, stage := range installed {
		m.Net.Serve(w.files[stage])
		m.Process(sim.Once)
	}
	return m
}

// bareMachine was set up with the first release of a world, and wants no applications yet.
func bareMachine(t testing.TB, w *appWorld, seed uint64) *sim.Machine {
	t.Helper()
	m, err := sim.NewMachine(seed, noon, w.size, w.root, w.os[0], sim.Simulated)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.os[1:] {
		own := *r // a story may change what it does
		m.Releases = append(m.Releases, &own)
	}
	m.Options.Verdicts = &w.verdicts
	m.NewApplications(w.apps...)
	factory, err := w.os[0].Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: factory}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
