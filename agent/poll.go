package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// wish is what to look for: nothing but the zero value for the ordinary poll.
type wish struct {
	version release.Version // this one, not the directive's
	now     bool            // whatever window and rollout say
	force   bool            // whatever hold and denial say
	cached  bool            // do not ask the server: what is known must do
}

// decision is what a poll found.
type decision struct {
	manifest  *release.Manifest
	raw       []byte             // the manifest as it was signed
	directive *release.Directive // nil: none
	never     []Reason           // why the release is not for this host at all
	later     []Reason           // why not now
	offer     *Offer             // what it would cost; nil if not worked out
	routes    []Route
	withdrawn string // that what runs was taken back, and why
}

func (d *decision) ok() bool { return d.manifest != nil && len(d.never) == 0 && len(d.later) == 0 }

func (d *decision) reasons() []Reason { return append(append([]Reason(nil), d.never...), d.later...) }

// source makes the network look like a repository's files to the trust client.
type source struct{ net Net }

// Fetch implements signing.Source.
func (s source) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := s.net.Get(ctx, path, 0, limit+1)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("fetch %s: got more than %d bytes", path, limit)
	}
	return b, nil
}

// client opens the trust client when it is first needed.
func (a *Agent) client() (*signing.Client, error) {
	if a.trust != nil {
		return a.trust, nil
	}
	if a.st.dir == nil {
		return nil, a.st.missing()
	}
	dir, err := a.st.dir.Sub("trust")
	if err != nil {
		return nil, &Refusal{Reason{CodeState, fmt.Sprintf("open trust state: %v", err)}, err}
	}
	c, err := signing.Open(signing.Config{Dir: dir, Factory: a.o.Factory, Now: a.o.Clock.Now, MinTime: a.o.BuildTime, Verdicts: a.o.Verdicts})
	if err != nil {
		return nil, trustRefusal("open trust state", err)
	}
	a.trust = c
	return c, nil
}

// trustRefusal gives an error of the trust client its reason code.
func trustRefusal(doing string, err error) error {
	code := signing.Code(err)
	switch {
	case code != "":
	case errors.Is(err, ErrUnavailable):
		code = CodeUnavailable
	default:
		// What the client did not judge itself comes from the state directory.
		code = CodeState
	}
	return &Refusal{Reason{code, doing + ": " + err.Error()}, err}
}

// decide looks for the release that this host should run and says whether it may have
// it now. An error means that nothing could be found out.
func (a *Agent) decide(ctx context.Context, m machine, w wish) (*decision, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	var src signing.Source
	if !w.cached {
		src = source{a.net}
		if err := c.Refresh(ctx, src); err != nil {
			return nil, trustRefusal("refresh trust metadata", err)
		}
	}
	d := &decision{}
	if d.directive, err = a.directive(ctx, c, src); err != nil {
		return nil, err
	}
	version, err := a.wanted(ctx, c, src, d.directive, w)
	if err != nil {
		return nil, err
	}
	if version.IsZero() {
		// No directive and no rollout = "all": there is nothing to choose by.
		p := policy.Rollout(a.o.Rollout, nil, a.o.HostID, a.o.Clock.Now())
		d.later = append(d.later, Reason{p.Code, p.Text})
		return d, nil
	}
	if err := a.fetchManifest(ctx, c, src, d, version); err != nil {
		return nil, err
	}
	d.withdrawn = a.withdrawnHere(c, m)
	if d.manifest == nil {
		if w, ok := c.Withdrawn(release.TargetName(a.o.Channel, a.o.Compatible, version)); ok {
			d.never = append(d.never, Reason{CodeIncompatible, withdrawnText(version, w)})
			return d, nil
		}
		d.never = append(d.never, Reason{CodeIncompatible, fmt.Sprintf("channel %s has no release %s for %s", a.o.Channel, version, a.o.Compatible)})
		return d, nil
	}
	if err := a.judgeRelease(m, d, w); err != nil {
		return nil, err
	}
	return d, a.judgeMoment(d, w)
}

// directive returns the fleet's directive, or nil if there is none for this channel.
func (a *Agent) directive(ctx context.Context, c *signing.Client, src signing.Source) (*release.Directive, error) {
	b, err := c.Target(ctx, src, release.DirectiveName(a.o.Fleet), release.MaxDirectiveSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, trustRefusal("read directive", err)
	}
	d, err := a.st.known.directive(b)
	if err != nil {
		return nil, &Refusal{Reason{CodeUntrusted, err.Error()}, err}
	}
	if d.Channel != a.o.Channel {
		return nil, &Refusal{Reason{CodeUntrusted, fmt.Sprintf("directive of fleet %s: channel: got %s, want %s", a.o.Fleet, d.Channel, a.o.Channel)}, nil}
	}
	return d, nil
}

// wanted chooses the version: the operator's, the directive's, or the newest one.
func (a *Agent) wanted(ctx context.Context, c *signing.Client, src signing.Source, d *release.Directive, w wish) (release.Version, error) {
	if !w.version.IsZero() {
		return w.version, nil
	}
	if d != nil {
		return d.Version, nil
	}
	var newest release.Version
	if a.o.Rollout != policy.RolloutAll && !w.now {
		return newest, nil
	}
	names, err := c.Names(ctx, src, "os-"+a.o.Channel)
	if err != nil {
		return newest, trustRefusal("list releases", err)
	}
	prefix := "os/" + a.o.Channel + "/" + a.o.Compatible + "/"
	for _, n := range names {
		text, ok := strings.CutPrefix(n, prefix)
		if !ok {
			continue
		}
		v, err := release.ParseVersion(strings.TrimSuffix(text, ".json"))
		if err == nil && v.Compare(newest) > 0 {
			newest = v
		}
	}
	return newest, nil
}

// fetchManifest fills in the manifest, if the channel has one for this machine.
func (a *Agent) fetchManifest(ctx context.Context, c *signing.Client, src signing.Source, d *decision, v release.Version) error {
	name := release.TargetName(a.o.Channel, a.o.Compatible, v)
	b, err := c.Target(ctx, src, name, release.MaxManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return trustRefusal("read manifest "+name, err)
	}
	mf, err := a.st.known.manifest(b)
	if err == nil && (mf.Version.String() != v.String() || mf.Compatible != a.o.Compatible) {
		err = fmt.Errorf("manifest %s: describes %s for %s", name, mf.Version, mf.Compatible)
	}
	if err != nil {
		return &Refusal{Reason{CodeUntrusted, err.Error()}, err}
	}
	d.manifest, d.raw = mf, b
	return nil
}

// judgeRelease fills in why the release is not for this host at all.
func (a *Agent) judgeRelease(m machine, d *decision, w wish) error {
	mf := d.manifest
	never := func(code, format string, args ...any) {
		d.never = append(d.never, Reason{code, fmt.Sprintf(format, args...)})
	}
	if !a.o.Updater.IsZero() && a.o.Updater.Compare(mf.MinUpdater) < 0 {
		never(CodeIncompatible, "release %s needs updater %s, this is %s", mf.Version, mf.MinUpdater, a.o.Updater)
	}
	p, err := a.st.pointer(m.boot.Slot)
	if err != nil {
		return err
	}
	running, err := a.st.deployment(p.Current)
	if err != nil {
		return err
	}
	digest := mf.Deployment()
	switch {
	case running == nil:
	case running.Digest == digest && a.damage() != "":
		// The same once more, into the slot that can hold it whole.
	case running.Digest == digest:
		never(CodeCurrent, "release %s runs already", mf.Version)
	case mf.Version.Compare(running.Version) == 0 && !w.force:
		never(CodeCurrent, "version %s runs already, with other content", mf.Version)
	case mf.Version.Compare(running.Version) < 0 && !w.force && !a.mayComeDown(d, mf.Version):
		never(CodeDowngrade, "release %s is older than %s, which runs", mf.Version, running.Version)
	}
	if e := a.epoch(m); mf.Epoch < e {
		never(CodeEpoch, "release %s has security epoch %d, this host is at %d", mf.Version, mf.Epoch, e)
	}
	denial, err := a.deniedBy(digest, mf.Attempt)
	if err != nil {
		return err
	}
	if denial != nil && !w.force {
		code := CodeDenied
		if denial.Code == CodeTrialLost {
			code = CodeTrialLost
		}
		never(code, "release %s (%s) was left on %s: %s", denial.Version, digest.Short(), denial.Time.Format("2006-01-02 15:04"), denial.Text)
	}
	if reason := a.slotsFit(mf); reason != "" {
		never(CodeIncompatible, "%s", reason)
	}
	return nil
}

func (a *Agent) mayComeDown(d *decision, v release.Version) bool {
	return d.directive != nil && d.directive.ComeDown && d.directive.Version.Compare(v) == 0
}

// slotsFit compares the release's images with the slots' partitions.
func (a *Agent) slotsFit(mf *release.Manifest) string {
	have := map[string]bool{}
	for _, n := range a.o.Images {
		have[n] = true
		if _, ok := mf.Image(n); !ok {
			return fmt.Sprintf("release %s has no image for the partition %q of a slot", mf.Version, n)
		}
	}
	for _, i := range mf.Images {
		if !have[i.Name] {
			return fmt.Sprintf("release %s has an image %q, and the slots have no such partition", mf.Version, i.Name)
		}
	}
	return ""
}

// judgeMoment fills in why the release is not installed now.
func (a *Agent) judgeMoment(d *decision, w wish) error {
	now := a.o.Clock.Now()
	add := func(p policy.Decision) {
		if !p.OK() {
			d.later = append(d.later, Reason{p.Code, p.Text})
		}
	}
	if !w.force {
		h, err := a.st.hold(now)
		if err != nil {
			return err
		}
		if h != nil {
			add(policy.Hold(true, h.Until, now, h.Reason))
		}
	}
	if !w.now && a.damage() == "" {
		add(policy.InWindow(a.o.Windows, now, a.o.Location))
	}
	if !w.now {
		add(policy.Rollout(a.o.Rollout, d.directive, a.o.HostID, a.proven(now)))
	}
	return nil
}

// proven is the time for decisions of the publisher: the clock, unless signed data
// proves that it is later.
func (a *Agent) proven(now time.Time) time.Time {
	if a.trust != nil {
		if floor := a.trust.State().TimeFloor; floor.After(now) {
			return floor
		}
	}
	return now
}
