package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
)

// askApps answers a question about applications. It changes nothing.
func (a *Agent) askApps(ctx context.Context, r Request) (*AppAnswer, error) {
	if err := a.needApps(r); err != nil {
		return nil, err
	}
	m, err := a.machine(ctx)
	if err != nil {
		return nil, err
	}
	d, err := a.running(m)
	if err != nil {
		return nil, err
	}
	switch r.App.Do {
	case AppList, AppWhy:
		return a.listApps(ctx, d, r.App.Name)
	case AppPermissions:
		return a.listPermissions(d, r.App.Name)
	case AppDataList:
		return a.listData(d, r.App.Name)
	}
	return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("unknown question about apps: %.40q", r.App.Do)}, nil}
}

// listApps describes every application that is wanted or deployed, or one of them.
func (a *Agent) listApps(ctx context.Context, d *Deployment, only string) (*AppAnswer, error) {
	var names []string
	for _, w := range a.o.Apps.Wanted {
		names = append(names, w.Name)
	}
	if d != nil {
		for _, w := range d.Workloads {
			names = append(names, w.Name)
		}
	}
	slices.Sort(names)
	answer := &AppAnswer{Apps: []AppStatus{}}
	choices, err := a.choices()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Compact(names) {
		if only == "" || only == name {
			s := a.appStatus(ctx, d, name, choices.Apps[name])
			if only != "" {
				a.explain(ctx, d, &s)
			}
			answer.Apps = append(answer.Apps, s)
		}
	}
	if only != "" && len(answer.Apps) == 0 {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s is neither wanted nor installed", only)}, nil}
	}
	if t, err := a.appJournal(); err != nil {
		return nil, err
	} else if t.Phase != AppIdle {
		answer.Txn = &t
	}
	return answer, nil
}

func (a *Agent) appStatus(ctx context.Context, d *Deployment, name string, c appChoice) AppStatus {
	want, _ := a.wish(name)
	s := AppStatus{Name: name, Publisher: want.Publisher, State: "not-installed", Hold: c.Hold, Reasons: []Reason{}}
	if !c.Pin.IsZero() {
		s.Pin = &c.Pin
	}
	w, has := d.App(name)
	if has {
		s.Publisher, s.Version, s.App, s.Generation, s.Bundled, s.State = w.Publisher, &w.Version, &w.App, w.Generation, w.Bundled, "stopped"
		run, err := a.o.Apps.Prober.Status(ctx, name)
		switch s.Run = &run; {
		case err != nil:
			s.State, s.Run = "failed", nil
			s.Reasons = append(s.Reasons, Reason{"error", err.Error()})
		case run.Looping:
			s.State = "looping"
		case run.Running:
			s.State = "running"
		}
		s.Switch, s.SwitchText = a.nextSwitch(w)
	}
	a.mem.Lock()
	defer a.mem.Unlock()
	if r, bad := a.appProblems[name]; bad && has {
		s.Reasons = append(s.Reasons, r)
		if s.State == "stopped" {
			s.State = "failed"
		}
	}
	if o, ok := a.appOffers[name]; ok {
		if o.manifest != nil && (!has || o.app != w.App) {
			s.Offer = &o.manifest.Version
		}
		s.Reasons = append(s.Reasons, o.reasons...)
		if denied := func(r Reason) bool { return r.Code == CodeDenied }; s.Offer != nil && !slices.ContainsFunc(o.reasons, denied) {
			// It was tried, and left, since the poll that found it.
			since, err := a.appDenials(o.manifest, o.app)
			if err != nil {
				since = []Reason{{"error", err.Error()}}
			}
			s.Reasons = append(s.Reasons, since...)
		}
	}
	if c.Hold != nil && !slices.ContainsFunc(s.Reasons, func(r Reason) bool { return r.Code == CodeHeld }) {
		s.Reasons = append(s.Reasons, Reason{CodeHeld, holdText(c.Hold)})
	}
	return s
}

// explain adds to one application's status what is asked of the host: whether it could be
// started again, and how it is kept apart.
func (a *Agent) explain(ctx context.Context, d *Deployment, s *AppStatus) {
	w, has := d.App(s.Name)
	if !has {
		return
	}
	mf, err := a.appManifest(w.App)
	if err != nil {
		return // its state says so
	}
	why, notes, err := a.canStart(ctx, mf)
	if err == nil && why != nil {
		s.Reasons = append(s.Reasons, *why)
	}
	s.Notes = notes
}

// listPermissions says what deployed and offered applications ask for.
func (a *Agent) listPermissions(d *Deployment, only string) (*AppAnswer, error) {
	answer := &AppAnswer{Permissions: []AppGrant{}}
	choices, err := a.choices()
	if err != nil {
		return nil, err
	}
	add := func(mf *release.AppManifest) {
		w, _ := a.wish(mf.Name)
		for _, p := range mf.Permissions {
			g := AppGrant{App: mf.Name, Permission: permissionText(p), By: "nobody"}
			switch {
			case granted(slices.Concat(a.o.Apps.Deny, w.Deny), p):
				g.By = "denied"
			case granted(slices.Concat(a.o.Apps.Allow, w.Allow), p):
				g.Granted, g.By = true, "policy"
			case granted(choices.Apps[mf.Name].Grants, p):
				g.Granted, g.By = true, "operator"
			}
			if !slices.Contains(answer.Permissions, g) {
				answer.Permissions = append(answer.Permissions, g)
			}
		}
	}
	if d != nil {
		for _, w := range d.Workloads {
			if mf, err := a.appManifest(w.App); err == nil && (only == "" || only == w.Name) {
				add(mf)
			}
		}
	}
	a.mem.Lock()
	defer a.mem.Unlock()
	for name, o := range a.appOffers {
		if o.manifest != nil && (only == "" || only == name) {
			add(o.manifest)
		}
	}
	return answer, nil
}

// listData lists every generation of data that there is.
func (a *Agent) listData(d *Deployment, only string) (*AppAnswer, error) {
	answer := &AppAnswer{Data: []AppParked{}}
	t, err := a.appJournal()
	if err != nil {
		return nil, err
	}
	used, err := a.usedGenerations(&t)
	if err != nil {
		return nil, err
	}
	var why parkedRecord
	if err := a.loadApps(fileParked, &why); err != nil {
		a.log.Warn("it is not known why data was parked", "err", err)
	}
	apps, err := a.o.Apps.Data.Apps()
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		if only != "" && only != app {
			continue
		}
		list, err := a.o.Apps.Data.Generations(app)
		if err != nil {
			return nil, err
		}
		w, _ := d.App(app)
		for _, g := range list {
			p := AppParked{App: app, Generation: g.Name, Live: w.Generation == g.Name, Kept: used[app+"/"+g.Name], Bytes: g.Bytes, Made: g.Made}
			if i := slices.IndexFunc(why.Entries, func(e parked) bool { return e.App == app && e.Generation == g.Name }); i >= 0 {
				p.Version, p.Text = &why.Entries[i].Version, why.Entries[i].Text
			}
			answer.Data = append(answer.Data, p)
		}
	}
	return answer, nil
}
