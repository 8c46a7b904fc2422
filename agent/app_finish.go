package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// commitApps makes the new set's data the live one and ends the transaction. The set
// itself was chosen by the pointer already.
func (a *Agent) commitApps(m machine, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	from, err := a.st.deployment(t.From)
	if err != nil {
		return err
	}
	if err := a.commitLive(m, to); err != nil {
		return err
	}
	e := HistoryEntry{Result: "committed"}
	var left []DeployedApp
	for _, name := range t.Apps {
		old, had := from.App(name)
		w, has := to.App(name)
		if has {
			if _, err := a.st.undeny(w.App); err != nil {
				return err
			}
			if t.Kind == appInstall && w.Bundled {
				e.Text = fmt.Sprintf("release %s names it", to.Version)
			}
		}
		if had && (!has || w.Base != old.Generation) {
			left = append(left, old) // its data does not live on in what runs
		}
		if had && t.Kind == appRollback {
			e.Code, e.Text = CodeByHand, reasonText(&Transaction{Reason: t.Reason})
			if err := a.denyApp(old, Reason{e.Code, e.Text}); err != nil {
				return err
			}
		}
	}
	if err := a.noteParked(left, "left by "+t.Kind); err != nil {
		return err
	}
	if err := a.dropSuperseded(t, from, to); err != nil {
		return err
	}
	return a.finishApps(t, e)
}

// dropSuperseded drops the generation that the one before the last began from: what it
// held lives on in its successors, of which two are kept.
func (a *Agent) dropSuperseded(t *AppTransaction, from, to *Deployment) error {
	used, err := a.usedGenerations(&AppTransaction{})
	if err != nil {
		return err
	}
	for _, name := range t.Apps {
		old, had := from.App(name)
		w, has := to.App(name)
		if !had || !has || w.Base != old.Generation || old.Base == "" || used[name+"/"+old.Base] {
			continue
		}
		if err := a.o.Apps.Data.Remove(name, old.Base); err != nil {
			return fmt.Errorf("data of app %s: %w", name, err)
		}
	}
	return nil
}

// markAppReverting writes down that the new set failed, and why, before anything goes
// back.
func (a *Agent) markAppReverting(t *AppTransaction) error {
	t.Phase = AppReverting
	if t.Verdict == nil {
		t.Verdict, t.Evidence = a.appReason, a.appEvidence
	}
	if t.Verdict == nil {
		t.Verdict = &Reason{CodeTrialLost, "the pointer says another set"}
	}
	a.progress(Event{Step: "revert", Text: t.Verdict.Text})
	a.log.Warn("leaving the new set of applications", "txn", t.Seq, "apps", t.Apps, "code", t.Verdict.Code, "text", t.Verdict.Text)
	return a.saveAppJournal(t)
}

// flipAppsBack makes the pointer say the old set, whose data nobody has touched.
func (a *Agent) flipAppsBack(t *AppTransaction) error {
	p, err := a.st.pointer(t.Slot)
	if err != nil {
		return err
	}
	p.Current, p.Previous = t.From, t.Before
	return a.st.save(pointerFile(t.Slot), &p)
}

// finishAppRevert parks what the new set wrote, records the denial and ends the
// transaction.
func (a *Agent) finishAppRevert(ctx context.Context, t *AppTransaction) error {
	to, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	if err := a.endLoops(ctx, t); err != nil {
		return err
	}
	v := *t.Verdict
	// With boots left, nothing is said against a set that was only interrupted.
	lost := v.Code == CodeTrialLost && t.Boots.Seq == t.Seq && t.Boots.Count >= int(a.o.Tries)
	e := HistoryEntry{Result: "rolled-back", Code: v.Code, Text: v.Text}
	if lost {
		e.Kernel = a.bootsEvidence(t)
	}
	var rejected []DeployedApp
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		there, err := a.hasGeneration(name, w.Generation)
		if err != nil {
			return err
		}
		if there {
			rejected = append(rejected, w)
		}
		if v.Code == CodeUnhealthy || v.Code == CodeByHand || lost {
			if err := a.denyApp(w, v); err != nil {
				return err
			}
		}
	}
	if err := a.noteParked(rejected, v.Text); err != nil {
		return err
	}
	return a.finishApps(t, e)
}

// endLoops ends what of the new set does not run at this moment but would be started again.
func (a *Agent) endLoops(ctx context.Context, t *AppTransaction) error {
	from, err := a.st.deployment(t.From)
	if err != nil {
		return err
	}
	for _, name := range t.Apps {
		s, err := a.o.Apps.Prober.Status(ctx, name)
		if err != nil {
			return fmt.Errorf("status of app %s: %w", name, err)
		}
		if old, had := from.App(name); had && runsAs(s, old) == nil {
			continue
		}
		if err := a.o.Apps.Runner.Stop(ctx, name); err != nil {
			return fmt.Errorf("stop app %s: %w", name, err)
		}
	}
	return nil
}

func (a *Agent) denyApp(w DeployedApp, v Reason) error {
	return a.st.deny(Denial{Deployment: w.App, App: w.Name, Attempt: w.Attempt, Version: w.Version, Code: v.Code, Text: v.Text, Time: a.now()})
}

// finishApps ends the transaction: first the history, then the journal, then what is of
// no more use.
func (a *Agent) finishApps(t *AppTransaction, e HistoryEntry) error {
	from, _ := a.st.deployment(t.From) // what cannot be read is left out of the history
	to, _ := a.st.deployment(t.To)
	e.Seq, e.Time, e.Kind, e.Slot, e.Bytes, e.Evidence = t.Seq, a.now(), "app-"+t.Kind, t.Slot.String(), t.Bytes, t.Evidence
	for _, name := range t.Apps {
		old, _ := from.App(name)
		w, _ := to.App(name)
		e.App, e.From, e.To = name, old.Version, w.Version
		if err := a.st.record(e); err != nil {
			return err
		}
	}
	done := AppTransaction{Seq: t.Seq, Phase: AppIdle}
	if err := a.saveAppJournal(&done); err != nil {
		return err
	}
	a.log.Info("transaction of applications ended", "txn", t.Seq, "result", e.Result, "code", e.Code, "apps", t.Apps)
	a.forgetVerdict()
	ot := Transaction{}
	if err := a.st.loadOr(fileJournal, &ot); err != nil {
		return err
	}
	if err := a.removeOldDeployments(&ot); err != nil {
		return err
	}
	return a.sweepApps()
}

// sweepApps drops images and manifests that no deployment names, and the oldest parked
// generations beyond the quota.
func (a *Agent) sweepApps() error {
	t, err := a.appJournal()
	if err != nil {
		return err
	}
	images, manifests := map[release.Digest]bool{}, map[string]bool{}
	numbers, err := a.deploymentNumbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		d, err := a.st.deployment(n)
		if err != nil {
			return nil // what cannot be read may name anything
		}
		for _, w := range d.Workloads {
			images[w.Image.Root], manifests[appManifestFile(w.App)] = true, true
		}
		for _, r := range d.Apps {
			manifests[appManifestFile(r.Digest)] = true
			if mf, err := a.appManifest(r.Digest); err == nil {
				images[mf.Image.Root] = true
			}
		}
	}
	there, err := a.o.Apps.Images.List()
	if err != nil {
		return err
	}
	for _, root := range there {
		if !images[root] {
			if err := a.o.Apps.Images.Remove(root); err != nil {
				return err
			}
		}
	}
	s, err := a.appState()
	if err != nil {
		return err
	}
	names, err := s.dir.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, appManifestPrefix) && !manifests[firstOf(n)] {
			if err := s.remove(n); err != nil {
				return err
			}
		}
	}
	return a.sweepData(&t)
}

// usedGenerations are the generations, as app/name, that a deployment runs on or begins
// from, and the live ones.
func (a *Agent) usedGenerations(t *AppTransaction) (map[string]bool, error) {
	used, err := a.deployedGenerations(t)
	if err != nil {
		return nil, err
	}
	var r liveRecord
	if err := a.loadApps(fileLive, &r); err != nil {
		return nil, err
	}
	for name, l := range r.Apps {
		used[name+"/"+l.Generation] = true
	}
	return used, nil
}

// deployedGenerations are usedGenerations without the live ones of applications that no
// deployment has any more.
func (a *Agent) deployedGenerations(t *AppTransaction) (map[string]bool, error) {
	used := map[string]bool{}
	numbers, err := a.deploymentNumbers()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		d, err := a.st.deployment(n)
		if err != nil {
			return nil, err
		}
		for _, w := range d.Workloads {
			used[w.Name+"/"+w.Generation] = true
			if n == t.To {
				used[w.Name+"/"+w.Base] = true
			}
		}
	}
	return used, nil
}

// sweepData holds the parked generations of each app to the quota: those that nobody
// rejected go first, then the oldest.
func (a *Agent) sweepData(t *AppTransaction) error {
	keep := a.o.Apps.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	used, err := a.usedGenerations(t)
	if err != nil {
		a.log.Warn("parked data is left alone: it is not known what is in use", "err", err)
		return nil
	}
	var rejected parkedRecord
	if err := a.loadApps(fileParked, &rejected); err != nil {
		a.log.Warn("parked data is left alone: it is not known what was rejected", "err", err)
		return nil
	}
	apps, err := a.o.Apps.Data.Apps()
	if err != nil {
		return err
	}
	for _, app := range apps {
		list, err := a.o.Apps.Data.Generations(app)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(g workloads.Generation) bool { return used[app+"/"+g.Name] })
		slices.SortStableFunc(list, func(x, y workloads.Generation) int {
			return rank(rejected, app, x) - rank(rejected, app, y)
		})
		for i := 0; i < len(list)-keep; i++ {
			a.log.Info("dropping parked data", "app", app, "generation", list[i].Name)
			if err := a.o.Apps.Data.Remove(app, list[i].Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func rank(r parkedRecord, app string, g workloads.Generation) int {
	if slices.ContainsFunc(r.Entries, func(p parked) bool { return p.App == app && p.Generation == g.Name }) {
		return 1
	}
	return 0
}
