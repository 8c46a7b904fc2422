package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// The kinds of an AppTransaction.
const (
	appInstall  = "install"
	appUpdate   = "update"
	appRollback = "rollback"
	appRestore  = "restore" // of data
	appRemove   = "remove"
)

// appOffer is what a poll found for one application.
type appOffer struct {
	name     string
	manifest *release.AppManifest
	raw      []byte
	app      release.Digest
	reasons  []Reason // why it is not installed
	later    []Reason // of them, what a directive says of the moment
	comeDown bool     // an older version is asked for
}

// refreshed returns what knows of the server's newest metadata, and where the rest is.
func (a *Agent) refreshed(ctx context.Context) (*signing.Client, signing.Source, error) {
	c, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	src := source{a.net}
	if err := c.Refresh(ctx, src); err != nil {
		return nil, nil, trustRefusal("refresh trust metadata", err)
	}
	return c, src, nil
}

// pollApps asks what each wanted application should be, and opens a transaction for the
// first one that may change. One at a time: what fails must not hold back the others.
func (a *Agent) pollApps(ctx context.Context, m machine, only string, w wish) ([]appOffer, error) {
	if a.o.Apps == nil {
		return nil, nil
	}
	d, err := a.running(m)
	if err != nil {
		return nil, err
	}
	c, src, err := a.refreshed(ctx)
	if err != nil {
		return nil, err
	}
	var offers []appOffer
	begun := false
	for _, wanted := range a.o.Apps.Wanted {
		if only != "" && wanted.Name != only {
			continue
		}
		o, asked, err := a.offer(ctx, c, src, m, d, wanted, w, only != "")
		if !asked {
			continue
		}
		if err != nil {
			o = appOffer{name: wanted.Name, reasons: []Reason{reasonOf(err)}}
		}
		if !begun && len(o.reasons) == 0 && o.manifest != nil {
			if err := a.beginApp(m, d, o, w); err != nil {
				return nil, err
			}
			begun = true
		}
		offers = append(offers, o)
	}
	a.noteApps(offers)
	if !begun && only == "" {
		return offers, a.beginRemoval(m, d)
	}
	return offers, nil
}

func orError(code string) string {
	if code == "" {
		return "error"
	}
	return code
}

// noteApps keeps what a poll found, in memory.
func (a *Agent) noteApps(offers []appOffer) {
	a.mem.Lock()
	defer a.mem.Unlock()
	if a.appOffers == nil {
		a.appOffers = map[string]appOffer{}
	}
	for _, o := range offers {
		a.appOffers[o.name] = o
	}
}

// offerApp finds the version of an application that this host should run, and why it
// does not yet.
func (a *Agent) offerApp(ctx context.Context, c *signing.Client, src signing.Source, m machine, d *Deployment, want AppWish, w wish) (appOffer, error) {
	o := appOffer{name: want.Name}
	version, err := a.wantedApp(ctx, c, src, want, w, &o)
	if err != nil {
		return o, err
	}
	if len(o.reasons) > 0 {
		return o, nil
	}
	if version.IsZero() {
		o.reasons = []Reason{{CodeIncompatible, fmt.Sprintf("publisher %s has no app %s", want.Publisher, want.Name)}}
		return o, nil
	}
	if err := a.readAppManifest(ctx, c, src, want, version, &o); err != nil || len(o.reasons) > 0 {
		return o, err
	}
	if err := a.judgeOffer(ctx, m, d, &o, w); err != nil {
		return o, err
	}
	if old, has := d.App(want.Name); has {
		pinned := o.comeDown || !want.Version.IsZero() || !w.version.IsZero() || a.pinned(want.Name)
		switch {
		case old.App == o.app:
			o.reasons = append([]Reason{{CodeCurrent, fmt.Sprintf("app %s %s runs already", want.Name, version)}}, o.reasons...)
		case version.Compare(old.Version) < 0 && !pinned:
			o.reasons = append(o.reasons, Reason{CodeDowngrade, fmt.Sprintf("app %s %s is older than %s, which runs", want.Name, version, old.Version)})
		case version.Compare(old.Version) < 0 && o.manifest.Update.DataReads < a.dataFormat(old) && !w.force:
			o.reasons = append(o.reasons, Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data that %s writes: roll back with --data=restore", want.Name, version, old.Version)})
		}
	}
	return o, nil
}

func (a *Agent) pinned(name string) bool {
	c, err := a.choices()
	return err == nil && !c.Apps[name].Pin.IsZero()
}

// wantedApp chooses the version: the operator's, the pinned one, or the newest.
func (a *Agent) wantedApp(ctx context.Context, c *signing.Client, src signing.Source, want AppWish, w wish, o *appOffer) (release.Version, error) {
	if v, err := a.chosen(want, w); err != nil || !v.IsZero() {
		return v, err
	}
	directive, err := a.appDirective(ctx, c, src, want)
	if err != nil {
		return release.Version{}, err
	}
	if directive != nil {
		return a.directedApp(directive, w, o), nil
	}
	if a.o.Rollout != policy.RolloutAll && !w.now {
		o.reasons = []Reason{{CodeNoDirective, fmt.Sprintf("no directive says which version of app %s this fleet runs", want.Name)}}
		return release.Version{}, nil
	}
	return a.newestApp(ctx, c, src, want)
}

// readAppManifest fills in the manifest, signed by the publisher's role.
func (a *Agent) readAppManifest(ctx context.Context, c *signing.Client, src signing.Source, want AppWish, v release.Version, o *appOffer) error {
	name := release.AppTargetName(want.Publisher, want.Name, v)
	b, err := c.Target(ctx, src, name, release.MaxAppManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		o.reasons = []Reason{{CodeIncompatible, fmt.Sprintf("publisher %s has no app %s %s", want.Publisher, want.Name, v)}}
		return nil
	}
	if err != nil {
		return trustRefusal("read manifest "+name, err)
	}
	mf, app, err := a.st.known.app(b)
	if err == nil && (mf.Name != want.Name || mf.Publisher != want.Publisher || mf.Version.String() != v.String()) {
		err = fmt.Errorf("manifest %s: describes %s/%s %s", name, mf.Publisher, mf.Name, mf.Version)
	}
	if err != nil {
		return &Refusal{Reason{CodeUntrusted, err.Error()}, err}
	}
	o.manifest, o.app, o.raw = mf, app, b
	return nil
}

// judgeApp says why a version of an application is not for this host, or not now.
func (a *Agent) judgeApp(ctx context.Context, mf *release.AppManifest, app release.Digest) ([]Reason, error) {
	var list []Reason
	add := func(code, format string, args ...any) {
		list = append(list, Reason{code, fmt.Sprintf(format, args...)})
	}
	choices, err := a.choices()
	if err != nil {
		return nil, err
	}
	choice := choices.Apps[mf.Name]
	if mf.Arch != "any" && mf.Arch != a.o.Apps.Arch {
		add(CodeIncompatible, "app %s %s is made for %s, this is %s", mf.Name, mf.Version, mf.Arch, a.o.Apps.Arch)
	}
	if !a.o.Updater.IsZero() && a.o.Updater.Compare(mf.MinUpdater) < 0 {
		add(CodeIncompatible, "app %s %s needs updater %s, this is %s", mf.Name, mf.Version, mf.MinUpdater, a.o.Updater)
	}
	why, _, err := a.canStart(ctx, mf)
	if err != nil {
		return nil, err
	}
	if why != nil {
		list = append(list, *why)
	}
	denials, err := a.appDenials(mf, app)
	if err != nil {
		return nil, err
	}
	list = append(list, denials...)
	missing, denied := a.wants(mf, choice)
	for _, p := range denied {
		add(CodePermission, "app %s %s asks for %s, which this host denies", mf.Name, mf.Version, permissionText(p))
	}
	for _, p := range missing {
		add(CodePermission, "app %s %s asks for %s, which nobody granted: twinkeel app grant %s %s", mf.Name, mf.Version, permissionText(p), mf.Name, permissionText(p))
	}
	want, _ := a.wish(mf.Name)
	now := a.o.Clock.Now()
	if h := choice.Hold; h != nil && (h.Until.IsZero() || now.Before(h.Until)) {
		add(CodeHeld, "app %s: %s", mf.Name, holdText(h))
	} else if want.Hold {
		add(CodeHeld, "app %s is held by the configuration", mf.Name)
	}
	h, err := a.st.hold(now)
	if h != nil {
		add(CodeHeld, "%s", holdText(h))
	}
	return list, err
}

// appDenials says that this host has left a version of an application before.
func (a *Agent) appDenials(mf *release.AppManifest, app release.Digest) ([]Reason, error) {
	denial, err := a.deniedBy(app, mf.Attempt)
	if err != nil || denial == nil {
		return nil, err
	}
	return []Reason{{CodeDenied, fmt.Sprintf("app %s %s (%s) was left on %s: %s", mf.Name, mf.Version, app.Short(), denial.Time.Format("2006-01-02 15:04"), denial.Text)}}, nil
}

func permissionText(p release.AppPermission) string {
	if p.Value == "" {
		return p.Name
	}
	return p.Name + "=" + p.Value
}

// deployed is the application that an offer describes, on a new generation.
func (o *appOffer) deployed(generation, base string) DeployedApp {
	i := o.manifest.Image
	return DeployedApp{Publisher: o.manifest.Publisher, Name: o.name, Version: o.manifest.Version, App: o.app, Attempt: o.manifest.Attempt,
		Image: DeployedImage{i.Name, i.Size, i.Root, i.Salt}, Generation: generation, Base: base}
}

// beginApp opens the transaction that installs or updates one application.
func (a *Agent) beginApp(m machine, d *Deployment, o appOffer, w wish) error {
	if err := a.keepManifest(o.app, o.raw); err != nil {
		return err
	}
	old, has := d.App(o.name)
	t := AppTransaction{Kind: appInstall, Apps: []string{o.name}, Force: w.force}
	base := ""
	if has {
		t.Kind, base = appUpdate, old.Generation
	} else {
		live, err := a.live(m)
		if err != nil {
			return err
		}
		l := live[o.name]
		if there, err := a.hasGeneration(o.name, l.Generation); err != nil {
			return err
		} else if there {
			base = l.Generation
		}
	}
	return a.openApps(m, d, t, func(next *Deployment, generation string) {
		w := o.deployed(generation, base)
		w.Bundled = d.names(o.app) // then it goes on with the releases
		next.replaceApp(w)
	})
}

// beginRemoval opens a transaction that removes what is no longer wanted. Its data is
// parked.
func (a *Agent) beginRemoval(m machine, d *Deployment) error {
	if d == nil {
		return nil
	}
	for _, w := range d.Workloads {
		if _, wanted := a.wish(w.Name); wanted || w.Bundled {
			continue
		}
		return a.openApps(m, d, AppTransaction{Kind: appRemove, Apps: []string{w.Name}}, func(next *Deployment, _ string) {
			next.removeApp(w.Name)
		})
	}
	return nil
}

// idleApps returns the journal if nothing is under way that applications have a part in,
// and else says what is.
func (a *Agent) idleApps(m machine) (AppTransaction, error) {
	if phase := a.underWay(m); phase != Idle && phase != Staging {
		return AppTransaction{}, &Refusal{Reason{CodeBusy, osTrialText}, nil}
	}
	t, err := a.appTransaction(m)
	if err == nil && t.Phase != AppIdle {
		err = &Refusal{Reason{CodeBusy, fmt.Sprintf("transaction %d of applications is %s", t.Seq, t.Phase)}, nil}
	}
	return t, err
}

// openApps opens a transaction from deployment d to what change makes of it.
func (a *Agent) openApps(m machine, d *Deployment, t AppTransaction, change func(next *Deployment, generation string)) error {
	last, err := a.idleApps(m)
	if err != nil {
		return err
	}
	if err := a.st.writable(); err != nil {
		return err
	}
	if d == nil {
		// A host whose system nobody described still has a deployment.
		if _, err := a.adoptUnknown(m.boot.Slot); err != nil {
			return err
		}
		if d, err = a.running(m); err != nil {
			return err
		}
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return err
	}
	t.Seq, t.Phase, t.Slot, t.From, t.Before, t.Started = last.Seq+1, AppStaging, m.boot.Slot, d.Number, p.Previous, a.now()
	if err := a.dropStrays(); err != nil {
		return err
	}
	next := *d
	next.Workloads, next.Created = slices.Clone(d.Workloads), a.now()
	change(&next, fmt.Sprintf("g%d", t.Seq))
	if t.To, err = a.st.newDeployment(next); err != nil {
		return err
	}
	if err := a.copyManifest(d.Number, t.To); err != nil {
		return err
	}
	a.log.Info("transaction of applications begins", "txn", t.Seq, "kind", t.Kind, "apps", t.Apps)
	return a.saveAppJournal(&t)
}

// copyManifest gives a deployment the manifest of the one that it follows, if that is
// still there.
func (a *Agent) copyManifest(from, to uint64) error {
	raw, err := a.st.dir.Read(manifestFile(from))
	if err != nil {
		return nil
	}
	return a.st.saveManifest(to, raw)
}

func (d *Deployment) replaceApp(w DeployedApp) {
	d.removeApp(w.Name)
	d.Workloads = append(d.Workloads, w)
	slices.SortFunc(d.Workloads, func(x, y DeployedApp) int { return strings.Compare(x.Name, y.Name) })
}

func (d *Deployment) removeApp(name string) {
	d.Workloads = slices.DeleteFunc(slices.Clone(d.Workloads), func(w DeployedApp) bool { return w.Name == name })
}
