package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/twinkeel/twinkeel/agent/health"
	"github.com/twinkeel/twinkeel/workloads"
)

// advanceApps takes steps of the transaction of applications until there is nothing to
// do, or nothing to do yet. Outside of a transaction it sees to it that what the running
// slot's deployment says runs.
func (a *Agent) advanceApps(ctx context.Context) (AppTransaction, error) {
	if a.o.Apps == nil {
		return AppTransaction{Phase: AppIdle}, nil
	}
	t, err := a.stepApps(ctx)
	a.noteBroken(ctx, t, err)
	return t, err
}

func (a *Agent) stepApps(ctx context.Context) (AppTransaction, error) {
	for range 64 {
		if err := ctx.Err(); err != nil {
			return AppTransaction{}, err
		}
		m, err := a.machine(ctx)
		if err != nil {
			return AppTransaction{}, err
		}
		t, err := a.appTransaction(m)
		if err != nil {
			return t, err
		}
		if err := a.settleApps(m, &t); err != nil {
			return t, err
		}
		if t.Phase == AppStaging {
			// What was chosen before runs on meanwhile, after a reboot too.
			if err := a.converge(ctx, m); err != nil {
				return t, err
			}
		}
		o, err := a.observeApps(ctx, m, &t)
		if err != nil {
			return t, err
		}
		step := NextApp(t.Phase, o)
		switch step {
		case AppRest:
			return t, a.converge(ctx, m)
		case AppWait:
			return t, nil
		}
		a.log.Info("app step", "step", step, "phase", t.Phase, "txn", t.Seq, "apps", t.Apps)
		if err := a.doApps(ctx, step, m, &t); err != nil {
			a.appSettled = false
			return t, fmt.Errorf("%s: %w", step, err)
		}
	}
	return AppTransaction{}, fmt.Errorf("transaction of applications does not come to rest")
}

// settleApps makes sure that journal and pointer are what they seem to be: once in a
// process, because one before it may have been killed between a rename and the sync of its
// directory, and again when a step or adoptLive failed, in that sync perhaps. What would be
// built on such a file a power cut takes back.
func (a *Agent) settleApps(m machine, t *AppTransaction) error {
	if a.appSettled || t.Phase == AppIdle && !t.Adopting {
		a.appSettled = true
		return nil
	}
	slot := t.Slot
	if t.Adopting {
		slot = m.boot.Slot
	}
	p, err := a.st.pointer(slot)
	if err != nil {
		return err
	}
	if err := a.st.save(pointerFile(slot), &p); err != nil {
		return err
	}
	t.Adopting = false
	if err := a.saveAppJournal(t); err != nil {
		return err
	}
	a.appSettled = true
	return nil
}

// doApps carries out one step.
func (a *Agent) doApps(ctx context.Context, s AppStep, m machine, t *AppTransaction) error {
	switch s {
	case AppStage:
		return a.stageApps(ctx, m, t)
	case AppMarkSwitching:
		return a.markSwitching(ctx, m, t)
	case AppStop:
		return a.stopApps(ctx, m, t)
	case AppClone:
		return a.cloneApps(ctx, t)
	case AppTry:
		return a.tryApps(ctx, t)
	case AppFlip:
		return a.flipApps(t)
	case AppMarkTrial:
		return a.markTrial(m, t)
	case AppCount:
		return a.countBoot(m, t)
	case AppSwitch:
		return a.switchApps(ctx, t)
	case AppStart:
		if t.Phase == AppSwitching {
			return a.startStanding(ctx, t)
		}
		return a.startChanged(ctx, t)
	case AppJudge:
		return a.judgeApps(ctx, t)
	case AppCommit:
		return a.commitApps(m, t)
	case AppMarkReverting:
		return a.markAppReverting(t)
	case AppFlipBack:
		return a.flipAppsBack(t)
	case AppFinishRevert:
		return a.finishAppRevert(ctx, t)
	case AppAbandon:
		e := HistoryEntry{Result: "abandoned", Text: "no longer wanted, or not possible any more"}
		if a.appAgainst != nil {
			e.Code, e.Text = a.appAgainst.Code, a.appAgainst.Text
		}
		return a.finishApps(t, e)
	}
	return fmt.Errorf("unknown step %q", s)
}

// observeApps looks at what is so.
func (a *Agent) observeApps(ctx context.Context, m machine, t *AppTransaction) (AppObservation, error) {
	o := AppObservation{Verdict: a.appVerdict}
	if t.Phase == AppIdle && !t.Adopting {
		return o, nil
	}
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return o, err
	}
	o.Flipped = p.Current == t.To
	if m.boot.Slot != t.Slot {
		// The machine fell back to the other slot in the middle of it. Nothing of this
		// transaction runs; its pointer goes back, and that is all.
		o.Permit, o.Verdict, o.Quiet = PermitNo, VerdictUnhealthy, true
		if t.Verdict == nil {
			a.appReason = &Reason{CodeTrialLost, fmt.Sprintf("slot %s runs, the applications were tried in slot %s", m.boot.Slot, t.Slot)}
		}
		return o, nil
	}
	to, err := a.st.deployment(t.To)
	if err != nil || to == nil {
		a.log.Warn("the deployment of the applications' transaction cannot be read", "deployment", t.To, "err", err)
		o.Permit, o.Verdict, o.Quiet = PermitNo, VerdictUnhealthy, true
		return o, nil
	}
	o.Counted = t.counted(m)
	if a.spent(m, t) {
		o.Verdict, a.appReason = VerdictUnhealthy, spentReason(t)
	}
	if t.Phase == AppStaging {
		if o.Permit, a.appAgainst, err = a.permitApps(ctx, m, t, to); err != nil {
			return o, err
		}
		o.Staged = a.staged(t, to)
		return o, nil
	}
	return o, a.observeRunning(ctx, t, to, &o)
}

// observeRunning fills in what the runner and the data say.
func (a *Agent) observeRunning(ctx context.Context, t *AppTransaction, to *Deployment, o *AppObservation) error {
	says := to
	if !o.Flipped {
		from, err := a.st.deployment(t.From)
		if err != nil {
			return err
		}
		says = from
	}
	o.Quiet, o.Running, o.Cloned, o.Tried, o.Beside = true, true, true, true, t.beside()
	for _, name := range t.Apps {
		s, err := a.o.Apps.Prober.Status(ctx, name)
		if err != nil {
			return fmt.Errorf("status of app %s: %w", name, err)
		}
		want, has := says.App(name)
		right := has && s.App == want.App && s.Generation == want.Generation
		there, wanted, err := a.tried(ctx, t, to, name)
		if err != nil {
			return err
		}
		o.Tried = o.Tried && wanted
		if s.Running && !(right && t.leavesRunning()) || there && !wanted {
			o.Quiet = false
		}
		if has && !(s.Running && right) {
			o.Running = false
		}
		w, has := to.App(name)
		if !has || t.Phase != AppSwitching {
			continue
		}
		cloned, err := a.hasGeneration(name, w.Generation)
		if err != nil {
			return err
		}
		o.Cloned = o.Cloned && cloned
	}
	return nil
}

func (a *Agent) hasGeneration(app, name string) (bool, error) {
	list, err := a.o.Apps.Data.Generations(app)
	if err != nil {
		return false, fmt.Errorf("data of app %s: %w", app, err)
	}
	return slices.ContainsFunc(list, func(g workloads.Generation) bool { return g.Name == name }), nil
}

// permitApps asks whether a transaction that only fetches may go on, and what is against it.
func (a *Agent) permitApps(ctx context.Context, m machine, t *AppTransaction, to *Deployment) (Permit, *Reason, error) {
	if phase := a.underWay(m); phase != Idle && phase != Staging {
		// The OS waits for what has begun. What only fetches gives way: it may never end.
		return PermitNo, &Reason{CodeBusy, osTrialText}, nil
	}
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		mf, err := a.appManifest(w.App)
		if err != nil {
			return PermitNo, nil, nil
		}
		if t.Force {
			continue
		}
		reasons, err := a.judgeApp(ctx, mf, w.App)
		if ctx.Err() != nil {
			return PermitNo, nil, ctx.Err()
		}
		if err != nil {
			return PermitNo, nil, nil
		}
		if len(reasons) > 0 {
			return PermitNo, &reasons[0], nil
		}
	}
	return PermitYes, nil, nil
}

// staged reports whether every image of the apps that change is sealed.
func (a *Agent) staged(t *AppTransaction, to *Deployment) bool {
	for _, name := range t.Apps {
		if w, has := to.App(name); has && !a.sealed(w) {
			return false
		}
	}
	return true
}

// sealed reports whether the image of an app is there. What it holds is checked when it
// is started.
func (a *Agent) sealed(w DeployedApp) bool {
	dev, err := a.o.Apps.Images.OpenRead(w.Image.Root)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("image of app cannot be opened", "app", w.Name, "err", err)
		}
		return false
	}
	_ = dev.Close() // it was only looked for
	return true
}

// condemn gives the transaction's verdict without waiting for health.
func (a *Agent) condemn(code, text string) {
	a.appVerdict, a.appReason = VerdictUnhealthy, &Reason{code, text}
}

// forgetVerdict begins anew.
func (a *Agent) forgetVerdict() {
	a.appVerdict, a.appReason, a.appEvidence = VerdictPending, nil, nil
}

// appResults is the health of applications as one round of probes.
func (a *Agent) appResults(ctx context.Context, d *Deployment) []health.Result {
	if a.o.Apps == nil || d == nil {
		return nil
	}
	var results []health.Result
	for _, w := range d.Workloads {
		results = append(results, health.Result{Probe: "app:" + w.Name, Err: a.appHealth(ctx, w)})
	}
	return results
}
