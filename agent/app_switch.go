package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// markSwitching checks what can be known beforehand: whether this host can run the new
// set, whether the data can be cloned, and whether the new set can be tried beside the old
// one. If not, what runs is touched from here on.
func (a *Agent) markSwitching(ctx context.Context, m machine, t *AppTransaction) error {
	if phase := a.underWay(m); phase != Idle && phase != Staging {
		return &Refusal{Reason{CodeBusy, osTrialText}, nil}
	}
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	if err := a.mustRunAll(ctx, t, to); err != nil {
		return err
	}
	var set []DeployedApp
	for _, name := range t.Apps {
		w, has := to.App(name)
		if has {
			// Not while nothing runs. One that is damaged was dropped, and is fetched again; one
			// that cannot be read is left for the start to judge.
			if _, err := a.verifyApp(ctx, w); err != nil && (ctx.Err() != nil || !a.sealed(w)) {
				return err
			}
		}
		if has {
			set = append(set, w)
		}
	}
	err = a.copiesInTime(set)
	if err == nil {
		err = a.mayClone(ctx, standstill, set)
	}
	if err != nil {
		if ctx.Err() == nil {
			if ferr := a.finishApps(t, HistoryEntry{Result: "abandoned", Code: CodeOf(err), Text: reasonOf(err).Text}); ferr != nil {
				return ferr
			}
		}
		return err
	}
	if err := a.chooseStrategy(ctx, t, to); err != nil {
		return err
	}
	t.Phase = AppSwitching
	a.forgetVerdict()
	return a.saveAppJournal(t)
}

// An application may stand still so long while its data is copied. What a copy will take is
// estimated before anything is stopped. One that takes longer all the same is broken off, and
// the update is not tried again by itself for a while: the disk will be as slow at the next
// poll.
const (
	standstill = 2 * time.Minute
	lateAgain  = 24 * time.Hour
)

// copiesInTime refuses a set of which a copy of data took too long not long ago.
func (a *Agent) copiesInTime(set []DeployedApp) error {
	for _, w := range set {
		if until := a.appLate[w.Name]; w.Base != "" && a.now().Before(until) && until.Sub(a.now()) <= lateAgain {
			text := fmt.Sprintf("data of app %s: a copy of it took longer than %s, for which an app may stand still; it is tried again on %s, or by hand", w.Name, standstill, until.Format(time.DateTime))
			return &Refusal{Reason{CodeNoRoom, text}, nil}
		}
	}
	return nil
}

// mayClone refuses a set whose data cannot be copied in the room that there is, or within
// a time.
func (a *Agent) mayClone(ctx context.Context, within time.Duration, set []DeployedApp) error {
	var from []workloads.Origin
	for _, w := range set {
		if w.Base != "" {
			from = append(from, workloads.Origin{App: w.Name, Generation: w.Base})
		}
	}
	if len(from) == 0 {
		return nil
	}
	if err := a.o.Apps.Data.CheckClone(ctx, within, from...); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &Refusal{Reason{CodeNoRoom, fmt.Sprintf("data of applications: %v", err)}, err}
	}
	return nil
}

// osTrialText is the text of the refusal `busy` while a trial of the OS is on its way.
const osTrialText = "os-trial: a trial of the OS is staged or armed; its applications were chosen with it"

// stopApps ends what runs or is tried of the apps that change and has to end before the
// next step, the dependants first.
func (a *Agent) stopApps(ctx context.Context, m machine, t *AppTransaction) error {
	d, err := a.running(m)
	if err != nil {
		return err
	}
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(a.inOrder(d, t.Apps)) {
		there, wanted, err := a.tried(ctx, t, to, name)
		if err != nil {
			return err
		}
		if there && !wanted {
			if err := a.dropTried(ctx, name); err != nil {
				return err
			}
		}
		s, err := a.o.Apps.Prober.Status(ctx, name)
		if err != nil {
			return err
		}
		w, has := d.App(name)
		if t.leavesRunning() && has && s.App == w.App && s.Generation == w.Generation {
			continue
		}
		a.progress(Event{Step: "switch", Text: "stopping app " + name})
		if err := a.o.Apps.Runner.Stop(ctx, name); err != nil {
			return fmt.Errorf("stop app %s: %w", name, err)
		}
	}
	return nil
}

// cloneApps makes the new set's generations. One that cannot be made ends the
// transaction; the old set is started again.
func (a *Agent) cloneApps(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, standstill)
	defer cancel()
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		a.progress(Event{Step: "switch", Text: "data of app " + name})
		if err := a.o.Apps.Data.Clone(limited, name, w.Base, w.Generation); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if errors.Is(err, context.DeadlineExceeded) {
				if a.appLate == nil {
					a.appLate = map[string]time.Time{}
				}
				a.appLate[name] = a.now().Add(lateAgain)
				err = fmt.Errorf("it took longer than %s, for which an app may stand still: %w", standstill, err)
			}
			a.condemn(CodeNoRoom, fmt.Sprintf("data of app %s: %v", name, err))
			return nil
		}
	}
	return nil
}

// flipApps makes the pointer say the new set: the one write by which it is chosen.
func (a *Agent) flipApps(t *AppTransaction) error {
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return err
	}
	a.forgetVerdict()
	p.Current, p.Previous, p.Committed, p.ReadsFormat = t.To, t.From, true, a.st.reads
	return a.st.save(pointerFile(t.Slot), &p)
}

// startChanged starts the new set. What cannot be started condemns it.
func (a *Agent) startChanged(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	for _, name := range a.inOrder(to, t.Apps) {
		w, has := to.App(name)
		if !has {
			continue
		}
		if err := a.startApp(ctx, w); err != nil {
			return a.condemnFor(ctx, err)
		}
	}
	return nil
}

// condemnFor condemns the new set because of an error, unless the agent is to end. What
// the host could not do says nothing against an app: it is left for now, and not denied.
func (a *Agent) condemnFor(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	why := reasonOf(err)
	if CodeOf(err) == "" {
		why.Code = CodeState
	}
	a.condemn(why.Code, why.Text)
	return nil
}

// startApp verifies an app's image and starts it, if it does not run already.
func (a *Agent) startApp(ctx context.Context, w DeployedApp) error {
	s, err := a.o.Apps.Prober.Status(ctx, w.Name)
	if err != nil {
		return fmt.Errorf("status of app %s: %w", w.Name, err)
	}
	if s.Running && s.App == w.App && s.Generation == w.Generation {
		return nil
	}
	if s.Running {
		if err := a.o.Apps.Runner.Stop(ctx, w.Name); err != nil {
			return fmt.Errorf("stop app %s: %w", w.Name, err)
		}
	}
	return a.bringUp(ctx, w, a.o.Apps.Runner.Start, a.o.Apps.Runner.Stop)
}

// bringUp verifies an app's image and starts it by start; by end it takes back a start
// that failed.
func (a *Agent) bringUp(ctx context.Context, w DeployedApp, start func(context.Context, workloads.Unit) error, end func(context.Context, string) error) error {
	mf, err := a.appManifest(w.App)
	if err != nil {
		return err
	}
	if why := a.tooOpen(mf); why != nil {
		return &Refusal{*why, nil}
	}
	verified, err := a.verifyApp(ctx, w)
	if err != nil {
		return err
	}
	data, err := a.o.Apps.Data.Volumes(w.Name, w.Generation, mf)
	if err != nil {
		return fmt.Errorf("data of app %s: %w", w.Name, err)
	}
	a.progress(Event{Step: "switch", Text: fmt.Sprintf("starting app %s %s", w.Name, w.Version)})
	unit := workloads.Unit{
		Manifest: mf, Image: a.o.Apps.Images.Path(w.Image.Root), Verified: verified, Data: data, Generation: w.Generation, Grants: mf.Permissions,
	}
	err = start(ctx, unit)
	if err != nil && ctx.Err() == nil && !errors.Is(err, workloads.ErrMissing) {
		// One transient failure must not condemn a version.
		if err = end(ctx, w.Name); err == nil {
			err = start(ctx, unit)
		}
	}
	if errors.Is(err, workloads.ErrMissing) {
		return &Refusal{Reason{CodeIncompatible, fmt.Sprintf("app %s %s: %v", w.Name, w.Version, err)}, err}
	}
	if err != nil {
		return &Refusal{Reason{CodeUnhealthy, fmt.Sprintf("start app %s %s: %v", w.Name, w.Version, err)}, err}
	}
	return nil
}

// inOrder sorts names as they start, by their manifests.
func (a *Agent) inOrder(d *Deployment, names []string) []string {
	after, system := map[string][]string{}, map[string]bool{}
	for _, n := range names {
		w, has := d.App(n)
		if !has {
			continue
		}
		if mf, err := a.appManifest(w.App); err == nil {
			after[n], system[n] = mf.After, mf.Class == "system"
		}
	}
	return workloads.StartOrder(names, after, system)
}

// wants is what a manifest asks for and this host does not grant.
func (a *Agent) wants(mf *release.AppManifest, choice appChoice) (missing []release.AppPermission, denied []release.AppPermission) {
	w, _ := a.wish(mf.Name)
	allow := slices.Concat(a.o.Apps.Allow, w.Allow, choice.Grants)
	deny := slices.Concat(a.o.Apps.Deny, w.Deny)
	for _, p := range mf.Permissions {
		switch {
		case granted(deny, p):
			denied = append(denied, p)
		case !granted(allow, p):
			missing = append(missing, p)
		}
	}
	return missing, denied
}

func (a *Agent) wish(name string) (AppWish, bool) {
	for _, w := range a.o.Apps.Wanted {
		if w.Name == name {
			return w, true
		}
	}
	return AppWish{}, false
}
