package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// stageReleaseApps fetches the applications that a release of the OS names, with it.
func (a *Agent) stageReleaseApps(ctx context.Context, m machine, t *Transaction) error {
	d, err := a.st.deployment(t.To)
	if err != nil || d == nil || len(d.Apps) == 0 {
		return err
	}
	if a.o.Apps == nil {
		return &Refusal{Reason{CodeIncompatible, fmt.Sprintf("release %s names applications, and this host runs none: there is no [apps] in its configuration", d.Version)}, nil}
	}
	running, err := a.running(m)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	var list []DeployedApp
	for _, r := range d.Apps {
		w, err := a.releaseApp(ctx, c, source{a.net}, r)
		if err != nil {
			return err
		}
		list = append(list, w)
	}
	if _, err := a.trialSet(ctx, m, t, d); err != nil {
		return err
	}
	for _, w := range list {
		n, err := a.fetchApp(ctx, w, running, t.Seq)
		t.Bytes += n
		if err != nil {
			return err
		}
	}
	return nil
}

// keepReleaseApps fetches once more what was lost of the applications of a release since it
// was staged: a trial that was lost can be armed again days later.
func (a *Agent) keepReleaseApps(ctx context.Context, m machine, t *Transaction) error {
	d, err := a.st.deployment(t.To)
	if err != nil || d == nil || t.Kind == KindRollback || a.o.Apps == nil {
		return err
	}
	for _, r := range d.Apps {
		if _, err := a.appManifest(r.Digest); err != nil {
			a.log.Warn("manifest of an app is lost, fetching it again", "app", r.Name, "err", err)
			return a.stageReleaseApps(ctx, m, t)
		}
	}
	return nil
}

// releaseApp returns the application that a release names by its digest, with the
// manifest kept on the host. Without a client there has to be one already.
func (a *Agent) releaseApp(ctx context.Context, c *signing.Client, src signing.Source, r release.App) (DeployedApp, error) {
	o := appOffer{name: r.Name, app: r.Digest}
	mf, err := a.appManifest(r.Digest)
	switch {
	case err == nil:
		if o.manifest = mf; c != nil {
			// A power cut may have kept its second copy from being written.
			s, err := a.appState()
			if err != nil {
				return DeployedApp{}, err
			}
			if err := s.mend(appManifestFile(r.Digest), &manifestRecord{}); err != nil {
				return DeployedApp{}, err
			}
		}
	case c == nil:
		return DeployedApp{}, fmt.Errorf("manifest of app %s: %w", r.Name, err)
	default:
		version, err := release.ParseVersion(r.Version)
		if err != nil {
			return DeployedApp{}, &Refusal{Reason{CodeUntrusted, fmt.Sprintf("app %s: %v", r.Name, err)}, err}
		}
		if err := a.readAppManifest(ctx, c, src, AppWish{Name: r.Name, Publisher: r.Publisher}, version, &o); err != nil {
			return DeployedApp{}, err
		}
		if len(o.reasons) > 0 {
			return DeployedApp{}, &Refusal{o.reasons[0], nil}
		}
		if o.app != r.Digest {
			return DeployedApp{}, &Refusal{Reason{CodeUntrusted, fmt.Sprintf("app %s %s: digest: got %s, the release names %s", r.Name, r.Version, o.app.Short(), r.Digest.Short())}, nil}
		}
		if err := a.keepManifest(o.app, o.raw); err != nil {
			return DeployedApp{}, err
		}
	}
	choices, err := a.choices()
	if err != nil {
		return DeployedApp{}, err
	}
	if missing, denied := a.wants(o.manifest, choices.Apps[r.Name]); len(missing)+len(denied) > 0 {
		p := append(denied, missing...)[0]
		return DeployedApp{}, &Refusal{Reason{CodePermission, fmt.Sprintf("app %s %s asks for %s, which is not granted", r.Name, r.Version, permissionText(p))}, nil}
	}
	if err := a.mustRun(ctx, o.manifest); err != nil {
		return DeployedApp{}, err
	}
	w := o.deployed("", "")
	w.Bundled = true
	return w, nil
}

// armApps writes the deployment that the trial runs: the release's applications and those
// that run beside them, each on a generation of this arm's own, cloned from the
// committed one before anything is started on it.
func (a *Agent) armApps(ctx context.Context, m machine, t *Transaction) error {
	if a.o.Apps == nil {
		return nil
	}
	if at, err := a.readAppJournal(); err != nil || at.Phase != AppIdle {
		return &Refusal{Reason{CodeBusy, "a transaction of applications is under way"}, err}
	}
	origin := t.To
	if t.Origin != 0 {
		origin = t.Origin
	}
	d, err := a.st.deployment(origin)
	if err != nil || d == nil {
		return err
	}
	set, err := a.trialSet(ctx, m, t, d)
	if err != nil || len(set) == 0 && len(d.Workloads) == 0 {
		return err
	}
	// What is known beforehand must not cost a reboot, nor count against the release. Half of
	// the time for health is left for the applications to start.
	if err := a.mayClone(ctx, a.o.Rules.Deadline/2, set); err != nil {
		return err
	}
	generation := fmt.Sprintf("o%d-%d", t.Seq, t.Arms+1)
	next := *d
	next.Workloads, next.Created = nil, a.now()
	for _, w := range set {
		w.Generation = generation
		next.replaceApp(w)
	}
	n, err := a.st.newDeployment(next)
	if err != nil {
		return err
	}
	if err := a.copyManifest(d.Number, n); err != nil {
		return err
	}
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return err
	}
	// What is armed is the pointer's: a fallback slot keeps what it was committed with.
	p.Current, p.Previous = n, p.Current
	if t.Kind == KindRollback {
		p.Committed = true
	}
	if err := a.st.save(pointerFile(t.Slot), &p); err != nil {
		return err
	}
	if t.Kind == KindRollback && t.Origin == 0 {
		t.Origin = d.Number
	}
	t.To = n
	return nil
}

// leaveTrialApps ends what a trial meant for applications: its data is parked, and a
// slot that was gone back to has again what it was committed with.
func (a *Agent) leaveTrialApps(t *Transaction, text string) error {
	if err := a.parkTrial(t, text); err != nil || t.Origin == 0 {
		return err
	}
	p, err := a.st.pointer(t.Slot)
	if err != nil || p.Current != t.To {
		return err
	}
	p.Current = t.Origin
	return a.st.save(pointerFile(t.Slot), &p)
}

// readsRunningData refuses a rollback that would hold an application because it does not
// read the data that is kept.
func (a *Agent) readsRunningData(m machine, p Pointer, r Request) error {
	if a.o.Apps == nil || r.Data == "restore" || r.Force {
		return nil
	}
	to, err := a.st.deployment(p.Current)
	if err != nil || to == nil {
		return err
	}
	running, err := a.running(m)
	if err != nil {
		return err
	}
	for _, w := range to.Workloads {
		old, has := running.App(w.Name)
		if has && !a.readsDataOf(w, old) {
			return &Refusal{Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data that %s wrote: --data=restore goes back to its own", w.Name, w.Version, old.Version)}, nil}
		}
	}
	return nil
}

// readsDataOf reports whether one version of an application reads what another one writes, as far
// as is known.
func (a *Agent) readsDataOf(w, old DeployedApp) bool {
	mf, err := a.appManifest(w.App)
	return err != nil || mf.Update.DataReads >= a.dataFormat(old)
}

// trialSet is what the trial runs, each with the generation that it begins from.
func (a *Agent) trialSet(ctx context.Context, m machine, t *Transaction, d *Deployment) ([]DeployedApp, error) {
	running, err := a.running(m)
	if err != nil {
		return nil, err
	}
	var set []DeployedApp
	if t.Kind == KindRollback {
		for _, w := range d.Workloads {
			w.Base = w.Generation
			// By force an application goes back, too, that cannot keep the data: to its own.
			if old, has := running.App(w.Name); has && t.Data != "restore" && a.readsDataOf(w, old) {
				w.Base = old.Generation
			}
			set = append(set, w)
		}
		return set, nil
	}
	if running != nil {
		for _, w := range running.Workloads {
			named := slices.ContainsFunc(d.Apps, func(r release.App) bool { return r.Name == w.Name })
			if !named && !w.Bundled {
				w.Base = w.Generation
				set = append(set, w)
			}
		}
	}
	for _, r := range d.Apps {
		w, err := a.releaseApp(ctx, nil, nil, r)
		if err != nil {
			return nil, err
		}
		if old, has := running.App(r.Name); has {
			w.Base = old.Generation
		} else if w.Base, err = a.goesOn(m, w); err != nil {
			return nil, err
		}
		set = append(set, w)
	}
	for _, r := range d.Apps {
		mf, err := a.appManifest(r.Digest)
		if err == nil {
			err = a.refuse(mf, a.outOfOrder(mf, set), nil, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return set, nil
}

// startTrialApps makes the arm's generations and starts the applications of a trial. What
// cannot be started is for the judge to see.
func (a *Agent) startTrialApps(ctx context.Context, t *Transaction) (*Deployment, error) {
	if a.o.Apps == nil {
		return nil, nil
	}
	d, err := a.st.deployment(t.To)
	if err != nil || d == nil {
		return nil, err
	}
	var names []string
	// What was estimated when the release was armed may take longer: then it is not waited for
	// beyond the time in which the trial has to be good.
	limited, cancel := context.WithTimeout(ctx, a.o.Rules.Deadline-a.o.Uptime())
	defer cancel()
	for _, w := range d.Workloads {
		names = append(names, w.Name)
		if err := a.o.Apps.Data.Clone(limited, w.Name, w.Base, w.Generation); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			a.problem(w.Name, fmt.Errorf("data of app %s: %w", w.Name, err))
		}
	}
	for _, name := range a.inOrder(d, names) {
		w, _ := d.App(name)
		there, err := a.hasGeneration(w.Name, w.Generation)
		if err == nil && !a.sealed(w) {
			_, err = a.fetchApp(ctx, w, d, 0) // it was damaged since it was staged
		}
		if err == nil && there {
			err = a.startApp(ctx, w)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			a.problem(name, err)
		}
	}
	return d, nil
}

// appProbes are the probes that a trial of the OS makes for its applications.
func appProbes(d *Deployment) []Probe {
	var list []Probe
	if d != nil {
		for _, w := range d.Workloads {
			list = append(list, health.Probe{Name: "app:" + w.Name, Required: true})
		}
	}
	return list
}

// parkTrial notes why the data that a trial wrote is not live.
func (a *Agent) parkTrial(t *Transaction, text string) error {
	if a.o.Apps == nil {
		return nil
	}
	d, err := a.st.deployment(t.To)
	if err != nil || d == nil {
		return err
	}
	var list []DeployedApp
	for _, w := range d.Workloads {
		there, err := a.hasGeneration(w.Name, w.Generation)
		if err != nil {
			return err
		}
		if there {
			list = append(list, w)
		}
	}
	return a.noteParked(list, text)
}

// appsUnderWay reports whether applications have to come to rest before an OS is tried.
func (a *Agent) appsUnderWay() bool {
	t, err := a.readAppJournal()
	return err != nil || t.Phase != AppIdle
}
