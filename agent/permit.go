package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/twinkeel/twinkeel/release"
)

// permit asks whether the transaction may go on. Trust, rollout and hold gate only the
// way to the trial: from armed on, and on the way back, nothing is asked.
func (a *Agent) permit(ctx context.Context, m machine, t *Transaction) (Permit, error) {
	if t.Phase != Staging && t.Phase != Staged {
		return PermitYes, nil
	}
	if t.Slot == m.boot.Slot {
		// The journal is behind: its slot runs, whatever a server would say of that now.
		return PermitYes, nil
	}
	if t.Phase == Staged && a.appsUnderWay() {
		return PermitWait, nil
	}
	early := tooEarly(t.RetryAt, a.o.Clock.Now())
	if t.Kind == KindRollback {
		if early {
			return PermitWait, nil
		}
		return PermitYes, nil
	}
	to, err := a.st.deployment(t.To)
	if err != nil || to == nil {
		a.log.Warn("the transaction's deployment cannot be read, giving it up", "txn", t.Seq, "deployment", t.To, "err", err)
		return PermitNo, nil
	}
	if t.Offline {
		return a.permitOffline(m, t, to, early)
	}
	w := wish{now: t.Now, force: t.Force}
	if t.Now || t.Force {
		w.version = to.Version
	}
	d, err := a.decide(ctx, m, w)
	if CodeOf(err) == CodeUnavailable {
		// The server is gone at this moment. What it said last counts until it expires.
		w.cached = true
		d, err = a.decide(ctx, m, w)
	}
	if err != nil {
		return PermitWait, err
	}
	a.note(d, nil)
	switch {
	case d.manifest == nil || d.manifest.Deployment() != to.Digest || len(d.never) > 0:
		a.log.Info("the release is no longer wanted", "txn", t.Seq, "version", to.Version, "reasons", d.reasons())
		return PermitNo, nil
	case t.Phase == Staging && !a.restored(t.To, to, d):
		return PermitNo, nil
	case early, len(d.later) > 0 && (t.Phase == Staged || onlyHalted(d.later)):
		return PermitWait, nil
	}
	return PermitYes, nil
}

// restored reports whether the manifest of a deployment that is being staged is at hand.
// One that was damaged on the disk is written anew from what was just verified.
func (a *Agent) restored(n uint64, to *Deployment, d *decision) bool {
	if _, err := a.st.manifest(n); err == nil {
		return true
	}
	if release.DigestOf(d.raw) != to.Manifest {
		return false
	}
	err := a.st.saveManifest(n, d.raw)
	a.log.Warn("the manifest of what is being staged was damaged, and is written anew", "deployment", n, "err", err)
	return err == nil
}

// tooEarly reports whether a lost trial still has to wait. A time that lies further ahead
// than any wait was noted while the clock was wrong, and holds nothing up.
func tooEarly(retry, now time.Time) bool {
	return now.Before(retry) && retry.Sub(now) <= lostWaits[len(lostWaits)-1]
}

// permitOffline is for a release that came in a bundle: no server is asked again, and
// without the bundle nothing can be staged.
func (a *Agent) permitOffline(m machine, t *Transaction, to *Deployment, early bool) (Permit, error) {
	if t.Phase == Staging && a.net == a.o.Net {
		return PermitNo, nil
	}
	denial, err := a.deniedBy(to.Digest, to.Attempt)
	if err != nil {
		return PermitWait, err
	}
	if denial != nil && !t.Force {
		return PermitNo, nil
	}
	if early {
		return PermitWait, nil
	}
	return PermitYes, nil
}

// onlyHalted reports whether somebody stopped the release: then not even the download
// goes on. A window that closed does not stop what has begun.
func onlyHalted(later []Reason) bool {
	for _, r := range later {
		if r.Code == CodeHeld || r.Code == CodePaused {
			return true
		}
	}
	return false
}

// begin opens a transaction for the release that was decided on, after everything that
// can be known beforehand was checked. Nothing of the slot is touched yet.
func (a *Agent) begin(m machine, d *decision, t Transaction) error {
	if m.boot.Slot == t.Slot {
		return fmt.Errorf("begin: slot %s runs", t.Slot)
	}
	if err := a.preflight(m, t.Slot); err != nil {
		return err
	}
	if _, err := a.plan(m, t.Slot, d.manifest); err != nil {
		return err
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return err
	}
	mf := d.manifest
	dep := Deployment{
		Digest: mf.Deployment(), Channel: a.o.Channel, Version: mf.Version, Epoch: mf.Epoch, Attempt: mf.Attempt,
		Apps: mf.Apps, Manifest: release.DigestOf(d.raw), Created: a.now(),
	}
	for _, i := range mf.Images {
		dep.Images = append(dep.Images, DeployedImage{i.Name, i.Size, i.Root, i.Salt})
	}
	if err := a.dropStrays(); err != nil {
		return err
	}
	number, err := a.st.newDeployment(dep)
	if err != nil {
		return err
	}
	if err := a.st.saveManifest(number, d.raw); err != nil {
		return err
	}
	t.Phase, t.Kind, t.From, t.To, t.Started = Staging, KindUpdate, p.Current, number, a.now()
	a.log.Info("update begins", "txn", t.Seq, "slot", t.Slot, "from", a.versionOf(t.From), "to", mf.Version)
	return a.save(&t)
}
