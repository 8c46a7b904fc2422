package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// changeApps carries out a request about applications that needs the agent for itself.
func (a *Agent) changeApps(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if err := a.needApps(r); err != nil {
		return nil, err
	}
	switch r.App.Do {
	case AppUpdate:
		delete(a.appLate, r.App.Name)
		return a.updateApps(ctx, m, r)
	case AppRehearse:
		return a.rehearseApp(ctx, m, r)
	case AppRollback:
		return a.rollbackApp(ctx, m, r)
	case AppDataRestore:
		return a.restoreData(ctx, m, r)
	case AppDataDrop:
		return a.dropData(r.App)
	case AppRestart:
		return a.restartApp(ctx, m, r.App.Name)
	case AppHold, AppUnhold, AppPin, AppUnpin, AppStartIt, AppStopIt, AppGrantIt, AppRevokeIt:
		return a.choose(ctx, m, r)
	}
	return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("unknown request about an app: %.40q", r.App.Do)}, nil}
}

func (a *Agent) needApps(r Request) error {
	switch {
	case a.o.Apps == nil:
		return &Refusal{Reason{CodeUsage, "this host runs no applications: there is no [apps] in its configuration"}, nil}
	case r.App == nil:
		return &Refusal{Reason{CodeUsage, "nothing is asked"}, nil}
	case r.App.Name != "" && release.CheckName("app", r.App.Name) != nil:
		return &Refusal{Reason{CodeUsage, fmt.Sprintf("app: got %.80q, want a name", r.App.Name)}, nil}
	}
	return nil
}

// updateApps installs what is offered for one application, or for the first that has
// something.
func (a *Agent) updateApps(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if _, known := a.wish(r.App.Name); r.App.Name != "" && !known {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s: no [[app]] in the configuration wants it", r.App.Name)}, nil}
	}
	if err := a.decidedFirst(m); err != nil {
		return nil, err
	}
	offers, err := a.pollApps(ctx, m, r.App.Name, wish{version: r.App.Version, now: true, force: r.Force})
	if err != nil {
		return nil, err
	}
	t, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	if t.Phase == AppIdle {
		o := &Outcome{Text: "nothing to install"}
		for _, f := range offers {
			o.Reasons = append(o.Reasons, f.reasons...)
		}
		if len(o.Reasons) > 0 {
			o.Text = o.Reasons[0].Text
			return o, &Refusal{o.Reasons[0], nil}
		}
		return o, nil
	}
	return a.finishRequest(ctx, t)
}

// finishRequest goes on to the verdict and says what it was.
func (a *Agent) finishRequest(ctx context.Context, t AppTransaction) (*Outcome, error) {
	now, err := a.advanceApps(ctx)
	if err != nil {
		return nil, err
	}
	if now.Phase != AppIdle {
		return &Outcome{Text: fmt.Sprintf("transaction %d of applications is %s", now.Seq, now.Phase)}, nil
	}
	list, err := a.st.history()
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(list) {
		if e.Seq != t.Seq || e.App == "" {
			continue
		}
		text := fmt.Sprintf("app %s: %s %s", e.App, e.Kind[len("app-"):], e.Result)
		if !e.To.IsZero() {
			text = fmt.Sprintf("app %s %s: %s", e.App, e.To, e.Result)
		}
		if e.Result == "committed" {
			return &Outcome{Text: text}, nil
		}
		return nil, &Refusal{Reason{orError(e.Code), text + ": " + e.Text}, nil}
	}
	return &Outcome{Text: "done"}, nil
}

// rollbackApp goes back to the version before, with its data of then or with today's.
func (a *Agent) rollbackApp(ctx context.Context, m machine, r Request) (*Outcome, error) {
	if r.App.Data != "" && r.App.Data != "keep" && r.App.Data != "restore" {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("data: got %.20q, want keep or restore", r.App.Data)}, nil}
	}
	t, err := a.appTransaction(m)
	if err != nil {
		return nil, err
	}
	if t.Phase == AppSwitching || t.Phase == AppTrial {
		// The trial ends by hand; the old set was never left.
		t.Verdict = &Reason{CodeByHand, reasonText(&Transaction{Reason: r.Reason})}
		if err := a.markAppReverting(&t); err != nil {
			return nil, err
		}
		if _, err := a.advanceApps(ctx); err != nil {
			return nil, err
		}
		return &Outcome{Text: "the trial is over; the old version runs"}, nil
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return nil, err
	}
	d, err := a.st.deployment(p.Current)
	if err != nil {
		return nil, err
	}
	before, err := a.st.deployment(p.Previous)
	if err != nil {
		before = nil // it is gone, or cannot be read: there is nothing to go back to
	}
	now, runs := d.App(r.App.Name)
	old, had := before.App(r.App.Name)
	switch {
	case !runs:
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s is not installed", r.App.Name)}, nil}
	case !had || old.App == now.App:
		return nil, &Refusal{Reason{CodeNoFallback, fmt.Sprintf("app %s: no other version of it is kept", r.App.Name)}, nil}
	}
	base := now.Generation
	if r.App.Data == "restore" {
		base = old.Generation
	} else if mf, err := a.appManifest(old.App); err != nil || mf.Update.DataReads < a.dataFormat(now) {
		return nil, &Refusal{Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data that %s wrote: --data=restore goes back to its own", old.Name, old.Version, now.Version)}, err}
	}
	t = AppTransaction{Kind: appRollback, Apps: []string{r.App.Name}, Force: true, Reason: r.Reason}
	return a.openAndFinish(ctx, m, d, t, func(next *Deployment, generation string) {
		old.Generation, old.Base = generation, base
		next.replaceApp(old)
	})
}

func (a *Agent) openAndFinish(ctx context.Context, m machine, d *Deployment, t AppTransaction, change func(*Deployment, string)) (*Outcome, error) {
	if err := a.openApps(m, d, t, change); err != nil {
		return nil, err
	}
	t, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	return a.finishRequest(ctx, t)
}

// restoreData makes a copy of a parked generation the live one; what was live is parked.
func (a *Agent) restoreData(ctx context.Context, m machine, r Request) (*Outcome, error) {
	d, err := a.running(m)
	if err != nil {
		return nil, err
	}
	w, runs := d.App(r.App.Name)
	if !runs {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s is not installed", r.App.Name)}, nil}
	}
	if there, err := a.hasGeneration(r.App.Name, r.App.Generation); err != nil || !there {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s has no data called %.40q", r.App.Name, r.App.Generation)}, err}
	}
	t := AppTransaction{Kind: appRestore, Apps: []string{r.App.Name}, Force: true, Reason: r.Reason}
	return a.openAndFinish(ctx, m, d, t, func(next *Deployment, generation string) {
		w.Generation, w.Base = generation, r.App.Generation
		next.replaceApp(w)
	})
}

// dropData drops a parked generation for good.
func (a *Agent) dropData(r *AppRequest) (*Outcome, error) {
	t, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	used, err := a.deployedGenerations(&t)
	if err != nil {
		return nil, err
	}
	if used[r.Name+"/"+r.Generation] {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("data %.40s of app %s is in use, or can be gone back to", r.Generation, r.Name)}, nil}
	}
	if there, err := a.hasGeneration(r.Name, r.Generation); err != nil || !there {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s has no data called %.40q", r.Name, r.Generation)}, err}
	}
	if err := a.forgetLive(r.Name, r.Generation); err != nil {
		return nil, err
	}
	if err := a.o.Apps.Data.Remove(r.Name, r.Generation); err != nil {
		return nil, err
	}
	return &Outcome{Text: fmt.Sprintf("data %s of app %s is dropped", r.Generation, r.Name)},
		a.st.record(HistoryEntry{Time: a.now(), Kind: "app-data-drop", Result: "done", App: r.Name, Text: r.Generation})
}

// choose writes down what the operator decided about one application.
func (a *Agent) choose(ctx context.Context, m machine, r Request) (*Outcome, error) {
	name := r.App.Name
	choices, err := a.choices()
	if err != nil {
		return nil, err
	}
	c := choices.Apps[name]
	text, err := c.apply(r, a)
	if err != nil {
		return nil, err
	}
	choices.Apps[name] = c
	if err := a.saveChoices(&choices); err != nil {
		return nil, err
	}
	if err := a.st.record(HistoryEntry{Time: a.now(), Kind: "app-" + string(r.App.Do), Result: "done", App: name, Text: r.Reason}); err != nil {
		return nil, err
	}
	if r.App.Do == AppStopIt {
		return &Outcome{Text: text}, a.o.Apps.Runner.Stop(ctx, name)
	}
	if r.App.Do == AppStartIt {
		_, err = a.advanceApps(ctx)
	}
	return &Outcome{Text: text}, err
}

func (c *appChoice) apply(r Request, a *Agent) (string, error) {
	name := r.App.Name
	if name == "" {
		return "", &Refusal{Reason{CodeUsage, "the name of an app is missing"}, nil}
	}
	switch r.App.Do {
	case AppHold:
		c.Hold = &Hold{Until: r.Until, Reason: r.Reason, Since: a.now()}
		return "app " + name + " is held", nil
	case AppUnhold:
		c.Hold = nil
		return "app " + name + " is no longer held", nil
	case AppPin:
		if r.App.Version.IsZero() {
			return "", &Refusal{Reason{CodeUsage, "pin: the version is missing"}, nil}
		}
		c.Pin = r.App.Version
		return fmt.Sprintf("app %s is pinned to %s", name, c.Pin), nil
	case AppUnpin:
		c.Pin = release.Version{}
		return "app " + name + " follows the newest version", nil
	case AppStartIt:
		c.Stopped = false
		return "app " + name + " is started", nil
	case AppStopIt:
		c.Stopped = true
		return "app " + name + " is stopped, and stays so until app start", nil
	case AppGrantIt:
		if r.App.Permission == "" {
			return "", &Refusal{Reason{CodeUsage, "grant: the permission is missing"}, nil}
		}
		c.Grants = append(slices.DeleteFunc(c.Grants, func(g string) bool { return g == r.App.Permission }), r.App.Permission)
		slices.Sort(c.Grants)
		return fmt.Sprintf("app %s gets %s", name, r.App.Permission), nil
	}
	c.Grants = slices.DeleteFunc(c.Grants, func(g string) bool { return g == r.App.Permission })
	return fmt.Sprintf("app %s no longer gets %s", name, r.App.Permission), nil
}

// restartApp stops and starts one application.
func (a *Agent) restartApp(ctx context.Context, m machine, name string) (*Outcome, error) {
	d, err := a.running(m)
	if err != nil {
		return nil, err
	}
	w, runs := d.App(name)
	if !runs {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s is not installed", name)}, nil}
	}
	mf, err := a.appManifest(w.App)
	if err == nil {
		err = a.mustStart(ctx, mf)
	}
	if err != nil {
		return nil, err
	}
	if err := a.o.Apps.Runner.Stop(ctx, name); err != nil {
		return nil, fmt.Errorf("stop app %s: %w", name, err)
	}
	o := &Outcome{Text: "app " + name + " is started again"}
	t, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	if t.Phase != AppIdle && slices.Contains(t.Apps, name) {
		// It is on trial: what starts it there counts the boot first.
		_, err = a.advanceApps(ctx)
		return o, err
	}
	err = a.runApp(ctx, m, w)
	if err != nil && ctx.Err() == nil {
		a.problem(name, err)
	}
	return o, err
}

// console is the runner's, if it has one.
func (a *Agent) console() workloads.Console {
	c, _ := a.o.Apps.Runner.(workloads.Console)
	return c
}
