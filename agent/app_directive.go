package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/twinkeel/twinkeel/agent/policy"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// appDirective returns the fleet's directive for an application, or nil.
func (a *Agent) appDirective(ctx context.Context, c *signing.Client, src signing.Source, want AppWish) (*release.AppDirective, error) {
	b, err := c.Target(ctx, src, release.AppDirectiveName(a.o.Fleet, want.Name), release.MaxDirectiveSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, trustRefusal("read directive of app "+want.Name, err)
	}
	d, err := release.DecodeAppDirective(b)
	if err == nil && (d.Name != want.Name || d.Publisher != want.Publisher || d.Channel != a.o.Channel) {
		err = fmt.Errorf("directive of app %s: is for %s/%s of channel %s", want.Name, d.Publisher, d.Name, d.Channel)
	}
	if err != nil {
		return nil, &Refusal{Reason{CodeUntrusted, err.Error()}, err}
	}
	return d, nil
}

// directedApp is the version that a directive sends this host to, with what it says of
// the moment.
func (a *Agent) directedApp(d *release.AppDirective, w wish, o *appOffer) release.Version {
	if w.now {
		return d.Version
	}
	rest := &release.Directive{Format: release.DirectiveFormat, Channel: d.Channel, Version: d.Version, Permille: d.Permille, Salt: d.Salt,
		NotBefore: d.NotBefore, Paused: d.Paused, ComeDown: d.ComeDown}
	now := a.o.Clock.Now()
	for _, p := range []policy.Decision{policy.InWindow(a.o.Windows, now, a.o.Location), policy.Rollout(a.o.Rollout, rest, a.o.HostID, a.proven(now))} {
		if !p.OK() {
			o.later = append(o.later, Reason{p.Code, p.Text})
		}
	}
	o.comeDown = d.ComeDown
	return d.Version
}

// newestApp is the newest version that the publisher offers and has not withdrawn.
func (a *Agent) newestApp(ctx context.Context, c *signing.Client, src signing.Source, want AppWish) (release.Version, error) {
	names, err := c.Names(ctx, src, "app-"+want.Publisher)
	if err != nil {
		return release.Version{}, trustRefusal("list versions of app "+want.Name, err)
	}
	var newest release.Version
	prefix := "apps/" + want.Publisher + "/" + want.Name + "/"
	for _, n := range names {
		text, ok := strings.CutPrefix(n, prefix)
		if !ok {
			continue
		}
		if _, gone := c.Withdrawn(n); gone {
			continue
		}
		v, err := release.ParseVersion(strings.TrimSuffix(text, ".json"))
		if err == nil && v.Compare(newest) > 0 {
			newest = v
		}
	}
	return newest, nil
}
