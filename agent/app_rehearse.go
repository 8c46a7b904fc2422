package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// rehearsal is the generation that a version is rehearsed on.
const rehearsal = "rehearsal"

// rehearseApp tries what is offered for an application on a copy of its data, and drops
// both: what runs, its data, the journal and the deployments stay as they are. A host that
// dies meanwhile drops the version when it looks after the application next, and the copy
// as any parked generation, or at the next rehearsal.
func (a *Agent) rehearseApp(ctx context.Context, m machine, r Request) (*Outcome, error) {
	d, old, err := a.mayRehearse(m, r.App.Name)
	if err != nil {
		return nil, err
	}
	c, src, err := a.refreshed(ctx)
	if err != nil {
		return nil, err
	}
	want, _ := a.wish(r.App.Name)
	// Neither a hold nor a denial is against a rehearsal: it installs nothing.
	o, err := a.offerApp(ctx, c, src, m, d, want, wish{version: r.App.Version, now: true, force: true})
	if err != nil {
		return nil, err
	}
	if len(o.reasons) > 0 {
		return nil, &Refusal{o.reasons[0], nil}
	}
	if why := unrehearsable(o.manifest); why != "" {
		return nil, &Refusal{Reason{CodeUsage, fmt.Sprintf("app %s %s cannot be rehearsed: %s", o.name, o.manifest.Version, why)}, nil}
	}
	if err := a.keepManifest(o.app, o.raw); err != nil {
		return nil, err
	}
	w := o.deployed(rehearsal, old.Generation)
	if _, err := a.fetchApp(ctx, w, d, 0); err != nil {
		return nil, err
	}
	err = a.rehearse(ctx, w, o.manifest)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	dropped := errors.Join(a.switcher().Drop(end, w.Name), a.o.Apps.Data.Remove(w.Name, rehearsal))
	if err = errors.Join(err, dropped); err != nil {
		return nil, err
	}
	return &Outcome{Text: fmt.Sprintf("app %s %s is healthy on a copy of generation %s; nothing was changed", w.Name, w.Version, old.Generation)}, nil
}

// mayRehearse refuses where there is nothing to rehearse on, or something is under way.
func (a *Agent) mayRehearse(m machine, name string) (*Deployment, DeployedApp, error) {
	var none DeployedApp
	refuse := func(code, text string) (*Deployment, DeployedApp, error) {
		return nil, none, &Refusal{Reason{code, text}, nil}
	}
	if _, known := a.wish(name); !known {
		return refuse(CodeUsage, fmt.Sprintf("app %s: no [[app]] in the configuration wants it", name))
	}
	if a.switcher() == nil {
		return refuse(CodeUsage, "the runner of this host does not try a version beside another")
	}
	if _, err := a.idleApps(m); err != nil {
		return nil, none, err
	}
	d, err := a.running(m)
	if err != nil {
		return nil, none, err
	}
	old, has := d.App(name)
	if !has {
		return refuse(CodeUsage, fmt.Sprintf("app %s is not installed: there is no data to rehearse on", name))
	}
	return d, old, nil
}

// unrehearsable says what of a version would reach beyond a copy of its data.
func unrehearsable(m *release.AppManifest) string {
	if m.Network.Mode == "host" {
		return "its network is the host's"
	}
	for _, p := range m.Permissions {
		if p.Name == "device" || p.Name == "app-socket" || p.Name == "host-path" && strings.HasSuffix(p.Value, ":rw") {
			return fmt.Sprintf("with %s it would change more than its data", permissionText(p))
		}
	}
	return ""
}

// copies is how often a copy is begun: what runs goes on, and a file may vanish while it
// is copied.
const copies = 3

// rehearse makes the copy, starts the version on it and judges it.
func (a *Agent) rehearse(ctx context.Context, w DeployedApp, mf *release.AppManifest) error {
	data := a.o.Apps.Data
	if err := a.mayClone(ctx, 0, []DeployedApp{w}); err != nil {
		return err
	}
	if err := errors.Join(a.switcher().Drop(ctx, w.Name), data.Remove(w.Name, rehearsal)); err != nil {
		return err
	}
	a.progress(Event{Step: "rehearse", Text: "copying data of app " + w.Name})
	var err error
	for range copies {
		if err = data.Clone(ctx, w.Name, w.Base, rehearsal); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("copy data of app %s: %w", w.Name, err)
	}
	verified, err := a.verifyApp(ctx, w)
	if err != nil {
		return err
	}
	// Volumes of other classes are not copied, and must not be the ones in use.
	apart := *mf
	apart.Data = slices.Clone(mf.Data)
	for i := range apart.Data {
		apart.Data[i].Class = "versioned"
	}
	dirs, err := data.Volumes(w.Name, rehearsal, &apart)
	if err != nil {
		return fmt.Errorf("data of app %s: %w", w.Name, err)
	}
	a.progress(Event{Step: "rehearse", Text: fmt.Sprintf("starting app %s %s", w.Name, w.Version)})
	err = a.switcher().Try(ctx, workloads.Unit{
		Manifest: mf, Image: a.o.Apps.Images.Path(w.Image.Root), Verified: verified, Data: dirs, Generation: rehearsal, Grants: mf.Permissions, Rehearsal: true,
	})
	if err != nil {
		return &Refusal{Reason{CodeUnhealthy, fmt.Sprintf("rehearsal: start app %s %s: %v", w.Name, w.Version, err)}, err}
	}
	return a.judgeRehearsal(ctx, &patient{app: w, rules: mf.Health})
}

// judgeRehearsal is nil if the version was good throughout its probation.
func (a *Agent) judgeRehearsal(ctx context.Context, p *patient) error {
	start := a.o.Clock.Now()
	for {
		limited, cancel := context.WithTimeout(ctx, time.Duration(p.rules.Timeout)+time.Second)
		err := a.triedHealth(limited, p.app)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch p.observe(a.o.Clock.Now(), start, err) {
		case VerdictUnhealthy:
			return &Refusal{Reason{CodeUnhealthy, fmt.Sprintf("rehearsal: app %s %s: %v; nothing was changed", p.app.Name, p.app.Version, err)}, err}
		case VerdictHealthy:
			return nil
		}
		a.progress(Event{Step: "rehearse", Text: appHealthText([]*patient{p})})
		if err := a.o.Clock.Sleep(ctx, time.Duration(p.rules.Interval)); err != nil {
			return err
		}
	}
}
