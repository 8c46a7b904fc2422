package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// Start implements workloads.Runner.
func (p *Applications) Start(_ context.Context, u workloads.Unit) error {
	if err := p.w.effect(op{verb: "start app", name: u.Name(), file: u.Manifest.Version.String()}); err != nil {
		return err
	}
	p.starts++
	if p.running[u.Name()] != nil {
		return fmt.Errorf("start app %s: it runs", u.Name())
	}
	q, err := p.process(u)
	if err == nil {
		p.serve(q)
		p.write(q)
		p.mayGoDown(q)
	}
	return err
}

// started is how often an application was started so far.
func (p *Applications) started() int {
	if p == nil {
		return 0
	}
	return p.starts
}

// mayGoDown ends the boot if that is what the process does.
func (p *Applications) mayGoDown(q *process) {
	if q.app.Behaviour == Unbootable {
		p.w.note("app %s %s takes the machine down", q.unit.Name(), q.app.Manifest.Version)
		p.downs()
		p.w.goDown()
	}
}

// process is a unit that is about to run.
func (p *Applications) process(u workloads.Unit) (*process, error) {
	d, err := u.Manifest.Digest()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.apps, func(a *App) bool { return a.Digest == d })
	if i < 0 {
		p.w.Break("law 2: app %s %s is started and was never published", u.Name(), u.Manifest.Version)
		return nil, errors.New("unknown app")
	}
	a := p.apps[i]
	if disk := p.disks[a.Manifest.Image.Root]; disk == nil || !bytes.Equal(disk.view[:len(a.part)], a.part) {
		p.w.Break("law 2: app %s %s is started from an image that is not its own", u.Name(), a.Manifest.Version)
	}
	if !u.Rehearsal {
		p.mayTry(u)
		p.mayRead(u)
	}
	return &process{u, a, p.w.age}, nil
}

// serve leads clients to a process.
func (p *Applications) serve(q *process) {
	name := q.unit.Name()
	p.mayRun(q.unit)
	p.running[name] = q
	if p.served[name] == nil {
		p.served[name] = map[string]bool{}
	}
	p.served[name][q.app.Manifest.Version.String()] = true
}

// writes reports whether a process has data of its own.
func (q *process) writes() bool {
	return slices.ContainsFunc(q.app.Manifest.Data, func(v release.AppVolume) bool { return v.Class == "versioned" })
}

// write is what a process does to its data.
func (p *Applications) write(q *process) {
	if !q.writes() {
		return
	}
	v := p.data[q.unit.Name()][q.unit.Generation]
	v.content = append(v.content, q.app.Manifest.Version.String()+"\n"...)
	v.format = max(v.format, q.app.Manifest.Update.DataFormat)
}

// Stop implements workloads.Runner. It ends what is tried, too.
func (p *Applications) Stop(_ context.Context, name string) error {
	if p.running[name] == nil && p.trials[name] == nil {
		return p.w.call(op{verb: "stop what does not run", name: name})
	}
	if err := p.w.effect(op{verb: "stop app", name: name}); err != nil {
		return err
	}
	delete(p.running, name)
	delete(p.trials, name)
	return nil
}

// Status implements workloads.Prober.
func (p *Applications) Status(_ context.Context, name string) (workloads.State, error) {
	if err := p.w.call(op{verb: "status of app", name: name}); err != nil {
		return workloads.State{}, err
	}
	q := p.running[name]
	s := q.state()
	if q != nil && q.app.Behaviour == Looping && p.w.age > q.since {
		s.Running, s.Looping, s.Exit = false, true, "exit status 1" // until its runner starts it again
	}
	return s, nil
}

func (q *process) state() workloads.State {
	if q == nil {
		return workloads.State{}
	}
	return workloads.State{Running: true, Version: q.app.Manifest.Version, App: q.app.Digest, Generation: q.unit.Generation}
}

// Healthy implements workloads.Prober.
func (p *Applications) Healthy(_ context.Context, name string) error {
	if err := p.w.call(op{verb: "check app", name: name}); err != nil {
		return err
	}
	return p.check(p.running[name])
}

// check is what the manifest's check says of a process, which goes on meanwhile.
func (p *Applications) check(q *process) error {
	switch {
	case q == nil:
		return errors.New("it does not run")
	case q.app.Behaviour == Unhealthy, q.app.Behaviour == Looping, q.app.Behaviour == Flapping && p.w.age-q.since > 10*time.Second:
		return errProbe
	}
	p.write(q)
	return nil
}

// Try implements workloads.Switcher.
func (p *Applications) Try(_ context.Context, u workloads.Unit) error {
	if err := p.w.effect(op{verb: "try app", name: u.Name(), file: u.Manifest.Version.String()}); err != nil {
		return err
	}
	if p.trials[u.Name()] != nil {
		return fmt.Errorf("try app %s: something else is tried", u.Name())
	}
	q, err := p.process(u)
	if err != nil {
		return err
	}
	if old := p.running[u.Name()]; old != nil && !u.Rehearsal && (old.writes() || q.writes()) {
		p.w.Break("law 6: app %s is tried on data of its own while version %s runs", u.Name(), old.app.Manifest.Version)
	}
	p.trials[u.Name()] = q
	p.mayGoDown(q)
	return nil
}

// Tried implements workloads.Switcher.
func (p *Applications) Tried(_ context.Context, name string) (workloads.State, error) {
	if err := p.w.call(op{verb: "status of trial", name: name}); err != nil {
		return workloads.State{}, err
	}
	return p.trials[name].state(), nil
}

// TriedLogs implements workloads.Switcher.
func (p *Applications) TriedLogs(_ context.Context, name string, _ int, w io.Writer) error {
	if err := p.w.call(op{verb: "log of trial", name: name}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "these are the words of version %s\n", p.Trial(name))
	return err
}

// HealthyTry implements workloads.Switcher.
func (p *Applications) HealthyTry(_ context.Context, name string) error {
	if err := p.w.call(op{verb: "check trial", name: name}); err != nil {
		return err
	}
	return p.check(p.trials[name])
}

// Switch implements workloads.Switcher. With sockets the version that was tried starts once
// more; without, clients are led to it, and then the old one ends.
func (p *Applications) Switch(_ context.Context, name string) error {
	q := p.trials[name]
	if q == nil {
		return fmt.Errorf("switch app %s: nothing is tried", name)
	}
	if len(q.app.Manifest.Network.Sockets) == 0 {
		if err := p.w.effect(op{verb: "switch app", name: name, file: q.app.Manifest.Version.String()}); err != nil {
			return err
		}
		delete(p.trials, name)
		p.serve(q)
		return p.w.effect(op{verb: "end old app", name: name})
	}
	for _, end := range []struct {
		verb string
		role map[string]*process
	}{{"end trial", p.trials}, {"end old app", p.running}} {
		if err := p.w.effect(op{verb: end.verb, name: name}); err != nil {
			return err
		}
		delete(end.role, name)
	}
	if err := p.w.effect(op{verb: "start app with sockets", name: name}); err != nil {
		return err
	}
	q.since = p.w.age
	p.serve(q)
	return nil
}

// Drop implements workloads.Switcher.
func (p *Applications) Drop(_ context.Context, name string) error {
	if p.trials[name] == nil {
		return p.w.call(op{verb: "drop what is not tried", name: name})
	}
	if err := p.w.effect(op{verb: "drop trial", name: name}); err != nil {
		return err
	}
	delete(p.trials, name)
	return nil
}

// Served lists the versions of an application that clients were ever led to.
func (p *Applications) Served(name string) []string { return slices.Sorted(maps.Keys(p.served[name])) }

// Trial returns the version that is tried beside an application.
func (p *Applications) Trial(name string) string {
	if q := p.trials[name]; q != nil {
		return q.app.Manifest.Version.String()
	}
	return ""
}
