package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// converge makes what the running slot's deployment says run, and nothing else. It is
// called whenever no transaction of applications is under way.
func (a *Agent) converge(ctx context.Context, m machine) error {
	d, err := a.running(m)
	if err != nil || d == nil {
		return err
	}
	if d, err = a.adoptLive(m, d); err != nil {
		return err
	}
	if err := a.mendApps(); err != nil {
		return err
	}
	choices, err := a.choices()
	if err != nil {
		return err
	}
	a.mem.Lock()
	clear(a.appProblems)
	a.mem.Unlock()
	var names []string
	for _, w := range d.Workloads {
		names = append(names, w.Name)
	}
	for _, name := range a.inOrder(d, names) {
		w, _ := d.App(name)
		if err := a.dropForgotten(ctx, name); err != nil {
			return err
		}
		if choices.Apps[name].Stopped {
			if err := a.stayStopped(ctx, name); err != nil {
				a.problem(name, err)
			}
			continue
		}
		if err := a.runApp(ctx, m, w); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// The others run all the same.
			a.problem(name, err)
		}
	}
	return nil
}

// stayStopped ends an application that the operator wants stopped: the agent that was told
// so may have ended between writing that down and doing it.
func (a *Agent) stayStopped(ctx context.Context, name string) error {
	s, err := a.o.Apps.Prober.Status(ctx, name)
	if err == nil && s.Running {
		err = a.o.Apps.Runner.Stop(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("keep app %s stopped: %w", name, err)
	}
	return nil
}

// problem notes why an application does not run.
func (a *Agent) problem(name string, err error) {
	a.log.Error("app does not run", "app", name, "code", CodeOf(err), "err", err)
	a.mem.Lock()
	defer a.mem.Unlock()
	if a.appProblems == nil {
		a.appProblems = map[string]Reason{}
	}
	why := Reason{orError(""), err.Error()}
	if r := new(Refusal); errors.As(err, &r) {
		why = r.Reason
	}
	a.appProblems[name] = why
	if a.wake != nil {
		a.wake()
	}
}

// runApp starts one application of a committed deployment, or of one on trial. An image
// that was lost or damaged is fetched again.
func (a *Agent) runApp(ctx context.Context, m machine, w DeployedApp) error {
	there, err := a.hasGeneration(w.Name, w.Generation)
	if err != nil {
		return err
	}
	if !there {
		return &Refusal{Reason{CodeState, fmt.Sprintf("data of app %s: generation %s is not there; nothing is made in its place", w.Name, w.Generation)}, nil}
	}
	live, err := a.live(m)
	if err != nil {
		return err
	}
	l, has := live[w.Name]
	if has && l.Generation != w.Generation && m.record.Slots[m.boot.Slot].Successful {
		return &Refusal{Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data of generation %s, which was written since; to go on with its own: twinkeel app data restore %s %s", w.Name, w.Version, l.Generation, w.Name, w.Generation)}, nil}
	}
	if mf, err := a.appManifest(w.App); err == nil && has && l.Generation == w.Generation && mf.Update.DataReads < l.DataFormat {
		return &Refusal{Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data of generation %s any more, which a newer version wrote to; what is kept beside it: twinkeel app data list %s", w.Name, w.Version, w.Generation, w.Name)}, nil}
	}
	if !a.sealed(w) {
		d, err := a.running(m)
		if err != nil {
			return err
		}
		if _, err := a.fetchApp(ctx, w, d, 0); err != nil {
			return err
		}
	}
	return a.startApp(ctx, w)
}

// adoptLive is for a machine whose slot is not the one that the newest data was committed
// with: it fell back by itself from a committed release, or came back to one. Its apps go on with
// the data that was written since, where their manifests say that they read it. The others are
// held by runApp, with their own data untouched.
func (a *Agent) adoptLive(m machine, d *Deployment) (*Deployment, error) {
	if !m.record.Slots[m.boot.Slot].Successful || a.underWay(m) != Idle && a.underWay(m) != Staging {
		return d, nil
	}
	if _, err := a.st.journal(); err != nil && !absent(err) && !errors.Is(err, errDamaged) {
		return d, err // it may tell of a commit that is not finished
	}
	live, err := a.live(m)
	if err != nil {
		return d, err
	}
	raised := maps.Clone(live)
	next := *d
	next.Workloads = slices.Clone(d.Workloads)
	changed := false
	for i, w := range next.Workloads {
		l, has := live[w.Name]
		if !has || l.Generation == w.Generation {
			continue
		}
		mf, err := a.appManifest(w.App)
		if err != nil || mf.Update.DataReads < l.DataFormat {
			continue
		}
		next.Workloads[i].Generation, next.Workloads[i].Base = l.Generation, ""
		raised[w.Name] = liveApp{l.Generation, max(l.DataFormat, mf.Update.DataFormat)}
		changed = true
	}
	if !changed {
		return d, nil
	}
	// Said before they write to it, and never taken back: what they write an older one may not read.
	if err := a.saveApps(fileLive, &liveRecord{raised}); err != nil {
		return d, err
	}
	next.Created = a.now()
	n, err := a.st.newDeployment(next)
	if err != nil {
		return d, err
	}
	if err := a.copyManifest(d.Number, n); err != nil {
		return d, err
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return d, err
	}
	p.Current = n
	next.Number = n
	a.log.Warn("this slot was fallen back to: its applications go on with the newest data", "slot", m.boot.Slot, "deployment", n)
	// The journal tells a process that comes after this one that the pointer may not be durable.
	t, err := a.appJournal()
	if err != nil {
		return d, err
	}
	t.Adopting = true
	if err := a.saveAppJournal(&t); err != nil {
		return d, err
	}
	a.appSettled = false
	if err := a.st.save(pointerFile(m.boot.Slot), &p); err != nil {
		return d, err
	}
	t.Adopting = false
	if err := a.saveAppJournal(&t); err != nil {
		return d, err
	}
	a.appSettled = true
	return &next, nil
}

// cycleApps is one round of the daemon's work on applications.
func (a *Agent) cycleApps(ctx context.Context, poll bool) error {
	if a.o.Apps == nil {
		return nil
	}
	t, err := a.advanceApps(ctx)
	if err != nil || t.Phase != AppIdle || !poll || a.phase(ctx) != Idle {
		return err
	}
	// As many transactions as there are applications: each poll opens one.
	for range a.o.Apps.Wanted {
		m, err := a.machine(ctx)
		if err != nil {
			return err
		}
		if _, err := a.pollApps(ctx, m, "", wish{}); err != nil {
			return err
		}
		if t, err = a.appJournal(); err != nil || t.Phase == AppIdle {
			return err
		}
		if _, err := a.advanceApps(ctx); err != nil {
			return err
		}
	}
	return nil
}
