package agent

import (
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/release"
)

// canRun says why this host cannot run a version of an application, nil if it can, and what
// an operator should know of how it would. It is asked before anything is fetched, and
// again before anything that runs is touched: a level of isolation is never lowered, and a
// version that runs is not given up for one that cannot.
func (a *Agent) canRun(ctx context.Context, mf *release.AppManifest) (why *Reason, notes []string, err error) {
	if why := a.tooOpen(mf); why != nil || a.o.Apps.Ready == nil {
		return why, nil, nil
	}
	notes, err = a.o.Apps.Ready(ctx, mf)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return &Reason{CodeIncompatible, fmt.Sprintf("app %s %s cannot run on this host: %v", mf.Name, mf.Version, err)}, notes, nil
	}
	return nil, notes, nil
}

// tooOpen says that a manifest asks for less isolation than this host wants of every
// application, nil if not. It is not given more instead: what it could then do, such as to
// use a device, nobody tried.
func (a *Agent) tooOpen(mf *release.AppManifest) *Reason {
	least := a.o.Apps.Isolation
	if !release.IsolatesLess(mf.Isolation.Level, least) {
		return nil
	}
	return &Reason{CodeIncompatible, fmt.Sprintf("app %s %s asks for isolation level %s, and this host runs nothing below level %s ([apps] isolation)", mf.Name, mf.Version, mf.Isolation.Level, least)}
}

// canStart is canRun, of this boot: it says, too, what the version needs and others have or
// nobody has just now. The apps called leaving have nothing any more when it starts.
func (a *Agent) canStart(ctx context.Context, mf *release.AppManifest, leaving ...string) (why *Reason, notes []string, err error) {
	why, notes, err = a.canRun(ctx, mf)
	if err != nil || why != nil || a.o.Apps.Free == nil {
		return why, notes, err
	}
	err = a.o.Apps.Free(ctx, mf, leaving)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		why = &Reason{CodeIncompatible, fmt.Sprintf("app %s %s cannot be started on this host now: %v", mf.Name, mf.Version, err)}
	}
	return why, notes, nil
}

// mustRun refuses a version of an application that this host cannot run, whatever is in
// use meanwhile: a trial of the OS begins with another boot.
func (a *Agent) mustRun(ctx context.Context, mf *release.AppManifest) error {
	why, notes, err := a.canRun(ctx, mf)
	return a.refuse(mf, why, notes, err)
}

// mustStart refuses a version of an application that could not be started now.
func (a *Agent) mustStart(ctx context.Context, mf *release.AppManifest, leaving ...string) error {
	why, notes, err := a.canStart(ctx, mf, leaving...)
	return a.refuse(mf, why, notes, err)
}

// refuse is the refusal of a version of an application, if there is a reason, and says what
// is known of it in any case.
func (a *Agent) refuse(mf *release.AppManifest, why *Reason, notes []string, err error) error {
	if err == nil && why != nil {
		err = &Refusal{*why, nil}
	}
	for _, n := range notes {
		a.log.Warn("isolation of app", "app", mf.Name, "level", mf.Isolation.Level, "note", n)
		a.progress(Event{Step: "check", Text: fmt.Sprintf("app %s: %s", mf.Name, n)})
	}
	return err
}

// mustRunAll refuses, with the transaction's end, a new set of which this host cannot run
// a part.
func (a *Agent) mustRunAll(ctx context.Context, t *AppTransaction, to *Deployment) error {
	for _, name := range t.Apps {
		w, has := to.App(name)
		if !has {
			continue
		}
		mf, err := a.appManifest(w.App)
		if err == nil {
			err = a.mustStart(ctx, mf, t.Apps...)
		}
		if err == nil {
			err = a.refuse(mf, a.outOfOrder(mf, to.Workloads), nil, nil)
		}
		if CodeOf(err) == CodeIncompatible {
			if ferr := a.finishApps(t, HistoryEntry{Result: "abandoned", Code: CodeIncompatible, Text: reasonOf(err).Text}); ferr != nil {
				return ferr
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// outOfOrder says that an application could start neither before others of a set nor after
// them, nil if there is an order. It is held, not denied: the others may change. In a set
// that runs already such a circle is broken instead (inOrder), so that a host comes up.
func (a *Agent) outOfOrder(mf *release.AppManifest, set []DeployedApp) *Reason {
	var others []*release.AppManifest
	for _, w := range set {
		if o, err := a.appManifest(w.App); err == nil && w.Name != mf.Name {
			others = append(others, o)
		}
	}
	if err := mf.CheckOrder(others); err != nil {
		return &Reason{CodeIncompatible, fmt.Sprintf("app %s %s cannot be started on this host: %v", mf.Name, mf.Version, err)}
	}
	return nil
}

// doctorApps says of each deployed application whether it could be started again.
func (a *Agent) doctorApps(ctx context.Context, d *Deployment, add addFinding) {
	for _, w := range d.Workloads {
		mf, err := a.appManifest(w.App)
		if err != nil {
			continue // whoever starts it says so
		}
		why, _, err := a.canStart(ctx, mf)
		if err == nil && why != nil {
			add(levelError, "applications", "it runs until it ends; then it is not started again, at no lower level neither", "%s", why.Text)
		}
	}
}
