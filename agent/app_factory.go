package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// lacks returns the application called name if the deployment's release names it and the
// deployment does not have it: a disk is made with the system of its release alone, and what
// a slot was committed with before applications were wanted has none.
func (d *Deployment) lacks(name string) (release.App, bool) {
	if _, has := d.App(name); d == nil || has {
		return release.App{}, false
	}
	i := slices.IndexFunc(d.Apps, func(r release.App) bool { return r.Name == name })
	if i < 0 {
		return release.App{}, false
	}
	return d.Apps[i], true
}

// names reports whether the deployment's release names this very application.
func (d *Deployment) names(app release.Digest) bool {
	return d != nil && slices.ContainsFunc(d.Apps, func(r release.App) bool { return r.Digest == app })
}

// chosen is the one version that the operator wants of an application, now or always; zero:
// there is none.
func (a *Agent) chosen(want AppWish, w wish) (release.Version, error) {
	choices, err := a.choices()
	if err != nil {
		return release.Version{}, err
	}
	for _, v := range []release.Version{w.version, choices.Apps[want.Name].Pin, want.Version} {
		if !v.IsZero() {
			return v, nil
		}
	}
	return release.Version{}, nil
}

// offer finds what a wanted application should be: what the running release names, if the
// host lacks that, or else what it wants for itself. Without an operator, byHand, what
// releases of the OS bring is not asked for.
func (a *Agent) offer(ctx context.Context, c *signing.Client, src signing.Source, m machine, d *Deployment, want AppWish, w wish, byHand bool) (o appOffer, asked bool, err error) {
	old, _ := d.App(want.Name)
	r, lacks := d.lacks(want.Name)
	bundled := want.Bundled || old.Bundled
	if lacks {
		// One version that the operator chose goes before that of the release.
		chosen, err := a.chosen(want, w)
		if err != nil {
			return appOffer{name: want.Name}, true, err
		}
		if lacks = chosen.IsZero() || bundled && !byHand; lacks {
			o, err = a.offerNamed(ctx, c, src, m, d, r, want, w)
			return o, true, err
		}
	}
	if bundled && !byHand {
		return appOffer{}, false, nil
	}
	o, err = a.offerApp(ctx, c, src, m, d, want, w)
	return o, true, err
}

// offerNamed finds an application that the running release names and the host lacks: in
// that version and no other, and then it goes on with the releases.
func (a *Agent) offerNamed(ctx context.Context, c *signing.Client, src signing.Source, m machine, d *Deployment, r release.App, want AppWish, w wish) (appOffer, error) {
	o := appOffer{name: want.Name}
	refuse := func(code, format string, args ...any) (appOffer, error) {
		o.reasons = append(o.reasons, Reason{code, fmt.Sprintf(format, args...)})
		return o, nil
	}
	version, err := release.ParseVersion(r.Version)
	if err != nil {
		return refuse(CodeUntrusted, "app %s: %v", r.Name, err)
	}
	if want.Publisher != r.Publisher {
		return refuse(CodeIncompatible, "release %s names app %s of publisher %s, and this host wants that of %s", d.Version, r.Name, r.Publisher, want.Publisher)
	}
	chosen, err := a.chosen(want, w)
	if err != nil {
		return o, err
	}
	if !chosen.IsZero() && chosen.Compare(version) != 0 {
		return refuse(CodeHeld, "release %s names app %s %s, and this host wants version %s alone", d.Version, r.Name, version, chosen)
	}
	if err := a.readAppManifest(ctx, c, src, want, version, &o); err != nil || len(o.reasons) > 0 {
		return o, err
	}
	if o.app != r.Digest {
		got := o.app
		o.manifest, o.raw, o.app = nil, nil, r.Digest
		return refuse(CodeUntrusted, "app %s %s: digest: got %s, release %s names %s", r.Name, version, got.Short(), d.Version, r.Digest.Short())
	}
	choices, err := a.choices()
	if err != nil {
		return o, err
	}
	if choices.Apps[want.Name].Stopped && !w.now {
		o.reasons = append(o.reasons, Reason{CodeHeld, fmt.Sprintf("app %s is stopped by the operator: twinkeel app start %s", want.Name, want.Name)})
	}
	return o, a.judgeOffer(ctx, m, d, &o, w)
}

// judgeOffer adds what is against an offer on this host, whatever version runs.
func (a *Agent) judgeOffer(ctx context.Context, m machine, d *Deployment, o *appOffer, w wish) error {
	reasons, err := a.judgeApp(ctx, o.manifest, o.app)
	if err != nil {
		return err
	}
	if d != nil {
		if why := a.outOfOrder(o.manifest, d.Workloads); why != nil {
			reasons = append(reasons, *why)
		}
	}
	reasons = append(reasons, o.later...)
	if w.force {
		reasons = slices.DeleteFunc(reasons, func(r Reason) bool { return r.Code == CodeHeld || r.Code == CodeDenied })
	}
	o.reasons = append(o.reasons, reasons...)
	if _, has := d.App(o.name); has || w.force {
		return nil
	}
	live, err := a.live(m)
	if err != nil {
		return err
	}
	if l, wrote := live[o.name]; wrote && o.manifest.Update.DataReads < l.DataFormat {
		o.reasons = append(o.reasons, Reason{CodeDataFormat, fmt.Sprintf("app %s %s does not read the data that a newer version of it wrote here (generation %s)", o.name, o.manifest.Version, l.Generation)})
	}
	return nil
}
