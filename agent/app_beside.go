package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// The strategies of a manifest by which a version is tried beside the one that runs.
const (
	strategyParallel = "parallel"
	strategySocket   = "socket"
	strategyStop     = "stop-start"
)

// strategyOf is how version next takes the place of version old, and why not in the way
// that its manifest says; "" if in that way.
func strategyOf(old, next *release.AppManifest) (strategy, why string) {
	want := next.Update.Strategy
	if want != strategyParallel && want != strategySocket {
		return strategyStop, ""
	}
	for _, m := range []*release.AppManifest{old, next} {
		for _, v := range m.Data {
			if v.Class == "versioned" {
				return strategyStop, fmt.Sprintf("volume %s of version %s is versioned: what is written to it while both versions run would be lost", v.Name, m.Version)
			}
		}
	}
	if want == strategyParallel && next.Network.Mode == "host" {
		return strategyStop, "both versions would listen in the host's own network"
	}
	return want, ""
}

// nextSwitch is how the version that the newest poll found would take the place of the one
// that is deployed, or else how the same version would.
func (a *Agent) nextSwitch(w DeployedApp) (strategy, why string) {
	old, err := a.appManifest(w.App)
	if err != nil {
		return "", ""
	}
	next := old
	a.mem.Lock()
	if o := a.appOffers[w.Name]; o.manifest != nil {
		next = o.manifest
	}
	a.mem.Unlock()
	if strategy, why = strategyOf(old, next); strategy != strategyStop && a.switcher() == nil {
		return strategyStop, "the runner of this host does not try a version beside another"
	}
	return strategy, why
}

// beside reports whether the new set is, at this point, tried beside the old one.
func (t *AppTransaction) beside() bool { return t.Phase == AppSwitching && t.Strategy != "" }

// leavesRunning reports whether what runs as the pointer says goes on running.
func (t *AppTransaction) leavesRunning() bool { return t.Phase != AppSwitching || t.beside() }

// switcher is the runner's, if it has one.
func (a *Agent) switcher() workloads.Switcher {
	s, _ := a.o.Apps.Runner.(workloads.Switcher)
	return s
}

// chooseStrategy decides how the apps that change take the place of what runs. Beside
// what does not run, nothing is tried.
func (a *Agent) chooseStrategy(ctx context.Context, t *AppTransaction, to *Deployment) error {
	t.Strategy = ""
	from, err := a.st.deployment(t.From)
	if err != nil {
		return err
	}
	chosen := ""
	for _, name := range t.Apps {
		old, had := from.App(name)
		w, has := to.App(name)
		if !had || !has || a.switcher() == nil {
			return nil
		}
		s, err := a.o.Apps.Prober.Status(ctx, name)
		if err != nil {
			return fmt.Errorf("status of app %s: %w", name, err)
		}
		before, err := a.appManifest(old.App)
		if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
			return nil // nobody knows what both would share
		}
		if err != nil {
			return err
		}
		mf, err := a.appManifest(w.App)
		if err != nil {
			return err
		}
		strategy, why := strategyOf(before, mf)
		if why != "" {
			a.log.Info("app is stopped and started, not switched as its manifest says", "app", name, "strategy", mf.Update.Strategy, "why", why)
		}
		if strategy == strategyStop || runsAs(s, old) != nil {
			return nil
		}
		chosen = strategy
	}
	t.Strategy = chosen
	return nil
}

// tried looks at what is tried of an app: whether there is anything, and whether it is
// what the transaction wants there.
func (a *Agent) tried(ctx context.Context, t *AppTransaction, to *Deployment, name string) (there, wanted bool, err error) {
	sw := a.switcher()
	if sw == nil {
		return false, false, nil
	}
	s, err := sw.Tried(ctx, name)
	if err != nil {
		return false, false, fmt.Errorf("trial of app %s: %w", name, err)
	}
	// Clients are not led to what has just ended: it is started in its place, and judged.
	wanted = t.beside() || t.Phase == AppTrial && s.Running
	w, has := to.App(name)
	there = !s.App.IsZero()
	return there, wanted && there && has && s.App == w.App && s.Generation == w.Generation, nil
}

// dropTried ends what is tried of an app.
func (a *Agent) dropTried(ctx context.Context, name string) error {
	a.progress(Event{Step: "switch", Text: "ending the trial of app " + name})
	return a.switcher().Drop(ctx, name)
}

// dropForgotten ends what is tried although no transaction knows of it: its journal was
// damaged.
func (a *Agent) dropForgotten(ctx context.Context, name string) error {
	there, _, err := a.tried(ctx, &AppTransaction{Phase: AppIdle}, nil, name)
	if err != nil || !there {
		return err
	}
	return a.dropTried(ctx, name)
}

// startStanding starts the old set, which a reboot or its own end has stopped, so that
// the new one can be tried beside it. If it does not stay, nothing is lost by stopping it.
func (a *Agent) startStanding(ctx context.Context, t *AppTransaction) error {
	from, err := a.st.deployment(t.From)
	if err != nil {
		return err
	}
	if a.appRestarted != t.Seq {
		a.appRestarted = t.Seq
		for range 2 { // one transient failure must not give up what it serves for
			if err = a.startAll(ctx, from, t.Apps); err == nil || ctx.Err() != nil {
				return err
			}
		}
	}
	a.log.Warn("the old version does not run; the new one is started in its place", "txn", t.Seq, "apps", t.Apps, "err", err)
	t.Strategy = ""
	return a.saveAppJournal(t)
}

func (a *Agent) startAll(ctx context.Context, d *Deployment, names []string) error {
	for _, name := range a.inOrder(d, names) {
		w, _ := d.App(name)
		if err := a.startApp(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// tryApps starts the new set where no client reaches it. What cannot be started is
// condemned, and nothing that runs was touched.
func (a *Agent) tryApps(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	for _, name := range a.inOrder(to, t.Apps) {
		_, wanted, err := a.tried(ctx, t, to, name)
		if err != nil {
			return err
		}
		if wanted {
			continue
		}
		a.forgetVerdict()
		w, _ := to.App(name)
		if err := a.bringUp(ctx, w, a.switcher().Try, a.switcher().Drop); err != nil {
			return a.condemnFor(ctx, err)
		}
	}
	return nil
}

// triedHealth is nil if an app is tried as deployed and its check passes.
func (a *Agent) triedHealth(ctx context.Context, w DeployedApp) error {
	s, err := a.switcher().Tried(ctx, w.Name)
	if err == nil {
		err = runsAs(s, w)
	}
	if err != nil {
		return err
	}
	return a.switcher().HealthyTry(ctx, w.Name)
}

// switchApps leads all clients to what was tried, now that the pointer says it. Where that
// fails, both versions end, and the one that the pointer says is started.
func (a *Agent) switchApps(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	for _, name := range a.inOrder(to, t.Apps) {
		a.progress(Event{Step: "switch", Text: "switching app " + name})
		err := a.switcher().Switch(ctx, name)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("app is stopped and started instead of switched", "app", name, "err", err)
			err = a.o.Apps.Runner.Stop(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("switch app %s: %w", name, err)
		}
	}
	return nil
}
