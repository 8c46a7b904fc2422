package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// RolloutStart says how a new release is offered.
type RolloutStart struct {
	Hold     bool // leave the directive as it is
	Permille *int // nil: all hosts, or, if the directive names this version already, as it is
}

func (r RolloutStart) check() error {
	if r.Permille != nil && (*r.Permille < 0 || *r.Permille > 1000) {
		return fmt.Errorf("rollout: got %d of 1000 hosts, want 0 to 1000", *r.Permille)
	}
	if r.Hold && r.Permille != nil {
		return errors.New("rollout: want a share or none, not both")
	}
	return nil
}

// apply returns the directive that follows old (nil: none) when version is offered.
func (r RolloutStart) apply(old *release.Directive, channel string, version release.Version) (d *release.Directive, note string) {
	switch {
	case r.Hold:
		return old, "the directive is left as it is: the release is signed, but not offered"
	case old != nil && version.Compare(old.Version) < 0:
		return old, fmt.Sprintf("the directive is left at %s, which is newer", old.Version)
	}
	d = &release.Directive{Format: release.DirectiveFormat, Channel: channel, Version: version, Permille: 1000, Salt: rolloutSalt(channel, version)}
	if old != nil {
		// How often hosts ask has nothing to do with which release they are offered.
		d.PollInterval = old.PollInterval
	}
	if old != nil && old.Version == version {
		*d = *old
	}
	if r.Permille != nil {
		d.Permille = *r.Permille
	}
	return d, ""
}

// rolloutSalt gives every release an order of hosts of its own, and always the same one.
func rolloutSalt(channel string, version release.Version) string {
	d := sha256.Sum256([]byte("twinkeel rollout salt 1\x00" + channel + "\x00" + version.String()))
	return hex.EncodeToString(d[:8])
}

// offering is a release on its way into a channel.
type offering struct {
	channel   string
	manifests map[string][]byte // by compatible
	version   release.Version
	start     RolloutStart
	propose   bool
}

// offered is what became of it.
type offered struct {
	directive *release.Directive
	proposal  *publisher.Proposal
	notes     []string
}

// offer signs manifests into a channel and moves its directive, or proposes to.
func (s *Site) offer(ctx context.Context, set *publisher.Set, ring *publisher.Ring, o offering) (*offered, error) {
	old, err := s.directive(set, o.channel)
	if err != nil {
		return nil, err
	}
	var r offered
	var note string
	if r.directive, note = o.start.apply(old, o.channel, o.version); note != "" {
		r.notes = append(r.notes, note)
	}
	role := publisher.OSRole(o.channel)
	var contents []publisher.File
	files := map[string][]byte{}
	for _, compatible := range slices.Sorted(maps.Keys(o.manifests)) {
		name := release.TargetName(o.channel, compatible, o.version)
		t, err := set.PutTarget(role, name, o.manifests[compatible])
		if err != nil {
			return nil, err
		}
		contents = append(contents, publisher.File{Path: t.Path(), Data: o.manifests[compatible]})
		files[name] = o.manifests[compatible]
	}
	if o.propose {
		r.proposal, err = s.propose(set, ring, files, o.channel, r.directive)
		return &r, err
	}
	if err := set.Sign(role, s.expires(role), ring); err != nil {
		return nil, err
	}
	if r.directive != nil {
		f, err := s.putDirective(set, ring, o.channel, r.directive)
		if err != nil {
			return nil, err
		}
		contents = append(contents, f)
	}
	return &r, s.commit(ctx, set, ring, contents, false)
}

// RolloutOptions change a channel's directive; nil and zero fields leave things as they are.
type RolloutOptions struct {
	Channel      string
	Version      release.Version
	Permille     *int
	Paused       *bool
	ComeDown     *bool
	NotBefore    *time.Time
	PollInterval *string
}

// RolloutResult is the directive as it is now.
type RolloutResult struct {
	Format    int                `json:"format"`
	Directive *release.Directive `json:"directive"`
	Warnings  []string           `json:"warnings,omitempty"`
}

// Rollout changes a channel's directive. It takes the server's own keys only.
func (s *Site) Rollout(ctx context.Context, in RolloutOptions) (*RolloutResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	list, err := releases(set, in.Channel)
	if err != nil {
		return nil, err
	}
	old, err := s.directive(set, in.Channel)
	if err != nil {
		return nil, err
	}
	d, err := in.apply(old, list)
	if err != nil {
		return nil, err
	}
	if old != nil && *d == *old {
		return &RolloutResult{1, d, s.warnings(set)}, fmt.Errorf("the directive of %s says so already: %w", in.Channel, ErrNothingToDo)
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	f, err := s.putDirective(set, ring, in.Channel, d)
	if err != nil {
		return nil, err
	}
	if err := s.commit(ctx, set, ring, []publisher.File{f}, false); err != nil {
		return nil, err
	}
	return &RolloutResult{1, d, s.warnings(set)}, s.record("rollout", d)
}

func (in RolloutOptions) apply(old *release.Directive, list []listed) (*release.Directive, error) {
	if old == nil && in.Version.IsZero() {
		return nil, fmt.Errorf("channel %s has no directive yet; name a version", in.Channel)
	}
	d := &release.Directive{Format: release.DirectiveFormat, Channel: in.Channel, Permille: 1000}
	if old != nil {
		*d = *old
	}
	if !in.Version.IsZero() && in.Version != d.Version {
		if !slices.ContainsFunc(list, func(l listed) bool { return l.Version == in.Version }) {
			return nil, fmt.Errorf("channel %s has no release %s", in.Channel, in.Version)
		}
		d.Version, d.Salt = in.Version, rolloutSalt(in.Channel, in.Version)
	}
	set(&d.Permille, in.Permille)
	set(&d.Paused, in.Paused)
	set(&d.ComeDown, in.ComeDown)
	set(&d.PollInterval, in.PollInterval)
	if in.NotBefore != nil {
		d.NotBefore = in.NotBefore.UTC().Truncate(time.Second)
	}
	return d, d.Validate()
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// manyReleases is how many releases a channel may list before it is time to retire some.
const manyReleases = 500

// roughly is a duration for people.
func roughly(d time.Duration) string {
	if d < 3*day {
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days", int(d/day))
}

// warnings tells of roles that have expired or soon will, and of long lists.
func (s *Site) warnings(set *publisher.Set) []string {
	margins := map[string]time.Duration{publisher.RoleRoot: 90 * day, publisher.RoleTargets: 45 * day}
	var list []string
	for _, r := range set.Roles() {
		margin, ok := margins[r.Name]
		if strings.HasPrefix(r.Name, "os-") || strings.HasPrefix(r.Name, "app-") {
			margin, ok = 20*day, true
		}
		if publisher.IsOnline(r.Name) {
			// renew signs these at half their life: it does not run, or fails.
			margin, ok = s.settings.Lifetimes.of(r.Name)/2, true
		}
		left := r.Expires.Sub(s.opt.Now())
		switch {
		case left <= 0:
			list = append(list, fmt.Sprintf("role %s expired on %s: hosts install nothing that needs it", r.Name, r.Expires.Format(time.DateOnly)))
		case ok && left < min(margin, s.settings.Lifetimes.of(r.Name)/2):
			list = append(list, fmt.Sprintf("role %s expires on %s, in %s", r.Name, r.Expires.Format(time.DateTime), roughly(left)))
		}
	}
	for _, channel := range set.Channels() {
		if targets, err := set.Targets(publisher.OSRole(channel)); err == nil && len(targets) > manyReleases {
			list = append(list, fmt.Sprintf("channel %s lists %d releases, and every host reads the whole list: retire old ones with gc --keep", channel, len(targets)))
		}
	}
	return list
}
