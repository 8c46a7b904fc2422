package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// appDirective returns the directive of an application in a channel, or nil.
func (s *Site) appDirective(set *publisher.Set, channel, name string) (*release.AppDirective, error) {
	t, found, err := set.Target(publisher.FleetRole(channel), release.AppDirectiveName(channel, name))
	if err != nil || !found {
		return nil, err
	}
	b, err := s.content(t)
	if err != nil {
		return nil, err
	}
	d, err := release.DecodeAppDirective(b)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	return d, nil
}

// appDirectives returns the directives of all applications in a channel, by name.
func (s *Site) appDirectives(set *publisher.Set, channel string) ([]*release.AppDirective, error) {
	targets, err := set.Targets(publisher.FleetRole(channel))
	if err != nil {
		return nil, err
	}
	var list []*release.AppDirective
	for _, t := range targets {
		name, ok := strings.CutPrefix(t.Name, "fleet/"+channel+"/app-")
		if !ok {
			continue
		}
		d, err := s.appDirective(set, channel, strings.TrimSuffix(name, ".json"))
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	sortBy(list, func(d *release.AppDirective) string { return d.Name })
	return list, nil
}

// applyApp returns the directive that follows old (nil: none) when version is offered.
func (r RolloutStart) applyApp(old *release.AppDirective, channel, of, name string, version release.Version) (d *release.AppDirective, note string, err error) {
	if old != nil && old.Publisher != of {
		return nil, "", fmt.Errorf("channel %s offers an app %s of %s: names are used once in a channel", channel, name, old.Publisher)
	}
	switch {
	case r.Hold:
		return old, "the directive is left as it is: the release is signed, but not offered", nil
	case old != nil && version.Compare(old.Version) < 0:
		return old, fmt.Sprintf("the directive is left at %s, which is newer", old.Version), nil
	}
	d = &release.AppDirective{Format: release.AppDirectiveFormat, Channel: channel, Publisher: of, Name: name, Version: version,
		Permille: 1000, Salt: appRolloutSalt(channel, name, version)}
	if old != nil && old.Version == version {
		*d = *old
	}
	set(&d.Permille, r.Permille)
	return d, "", nil
}

// appRolloutSalt gives every release of an application an order of hosts of its own.
func appRolloutSalt(channel, name string, version release.Version) string {
	return rolloutSalt(channel+"\x00app\x00"+name, version)
}

func encodeAppDirectives(list map[string]*release.AppDirective) (map[string][]byte, error) {
	encoded := map[string][]byte{}
	for name, d := range list {
		encoded[name] = nil
		if d != nil {
			b, err := d.Encode()
			if err != nil {
				return nil, err
			}
			encoded[name] = b
		}
	}
	return encoded, nil
}

// putAppDirectives signs directives of applications, by target name; nil removes one. It
// returns the files of their contents.
func (s *Site) putAppDirectives(set *publisher.Set, ring *publisher.Ring, list map[string]*release.AppDirective) ([]publisher.File, error) {
	encoded, err := encodeAppDirectives(list)
	if err != nil {
		return nil, err
	}
	return s.applyAppDirectives(set, ring, encoded)
}

func (s *Site) applyAppDirectives(set *publisher.Set, ring *publisher.Ring, encoded map[string][]byte) ([]publisher.File, error) {
	var contents []publisher.File
	roles := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(encoded)) {
		e := strings.Split(name, "/")
		if len(e) != 3 || e[0] != "fleet" || !strings.HasPrefix(e[2], "app-") {
			return nil, fmt.Errorf("app directive %.200q: want fleet/CHANNEL/app-NAME.json", name)
		}
		role, b := publisher.FleetRole(e[1]), encoded[name]
		roles[role] = true
		if len(b) == 0 {
			if err := set.DropTarget(role, name); err != nil {
				return nil, err
			}
			continue
		}
		d, err := release.DecodeAppDirective(b)
		if err != nil {
			return nil, err
		}
		if release.AppDirectiveName(e[1], d.Name) != name || d.Channel != e[1] {
			return nil, fmt.Errorf("app directive %.200q: is one for %s in %s", name, d.Name, d.Channel)
		}
		t, err := set.PutTarget(role, name, b)
		if err != nil {
			return nil, err
		}
		contents = append(contents, publisher.File{Path: t.Path(), Data: b})
	}
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		if err := set.Sign(role, s.expires(role), ring); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// AppRolloutOptions change the directive of an application in a channel; nil and zero
// fields leave things as they are.
type AppRolloutOptions struct {
	Channel   string
	App       string // NAME or PUBLISHER/NAME
	Version   release.Version
	Permille  *int
	Paused    *bool
	ComeDown  *bool
	NotBefore *time.Time
	Drop      bool // remove the directive: hosts go by the OS release again
}

// AppRolloutResult is the directive as it is now; nil if there is none.
type AppRolloutResult struct {
	Format    int                   `json:"format"`
	Directive *release.AppDirective `json:"directive"`
	Warnings  []string              `json:"warnings,omitempty"`
}

// RolloutApp changes how an application is released or held apart from the OS. It takes
// the server's own keys only.
func (s *Site) RolloutApp(ctx context.Context, in AppRolloutOptions) (*AppRolloutResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	if _, err := releases(set, in.Channel); err != nil {
		return nil, err
	}
	_, name, qualified := strings.Cut(in.App, "/")
	if !qualified {
		name = in.App
	}
	old, err := s.appDirective(set, in.Channel, name)
	if err != nil {
		return nil, err
	}
	var d *release.AppDirective
	if !in.Drop {
		if d, err = in.apply(set, old); err != nil {
			return nil, err
		}
	}
	r := &AppRolloutResult{1, d, s.warnings(set)}
	if old == nil && d == nil || old != nil && d != nil && *old == *d {
		return r, fmt.Errorf("channel %s says so of app %s already: %w", in.Channel, name, ErrNothingToDo)
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	contents, err := s.putAppDirectives(set, ring, map[string]*release.AppDirective{release.AppDirectiveName(in.Channel, name): d})
	if err != nil {
		return nil, err
	}
	if err := s.commit(ctx, set, ring, contents, false); err != nil {
		return nil, err
	}
	return r, s.record("app-rollout", map[string]any{"channel": in.Channel, "app": name, "directive": d})
}

func (in AppRolloutOptions) apply(published *publisher.Set, old *release.AppDirective) (*release.AppDirective, error) {
	if old == nil && in.Version.IsZero() {
		return nil, fmt.Errorf("channel %s has no directive for app %s yet; name a version", in.Channel, in.App)
	}
	d := &release.AppDirective{Format: release.AppDirectiveFormat, Channel: in.Channel, Permille: 1000}
	if old != nil {
		*d = *old
	}
	if !in.Version.IsZero() && (old == nil || in.Version != d.Version) {
		l, err := findApp(published, in.App, in.Version)
		if err != nil {
			return nil, err
		}
		if old != nil && old.Publisher != l.Publisher {
			return nil, fmt.Errorf("channel %s offers an app %s of %s: drop that first", in.Channel, l.Name, old.Publisher)
		}
		d.Publisher, d.Name, d.Version, d.Salt = l.Publisher, l.Name, l.Version, appRolloutSalt(in.Channel, l.Name, l.Version)
	}
	set(&d.Permille, in.Permille)
	set(&d.Paused, in.Paused)
	set(&d.ComeDown, in.ComeDown)
	if in.NotBefore != nil {
		d.NotBefore = in.NotBefore.UTC().Truncate(time.Second)
	}
	return d, d.Validate()
}

// AppWithdrawOptions name a release of an application to take back.
type AppWithdrawOptions struct {
	Publisher string
	Name      string
	Version   release.Version
	Reason    string
	ComeDown  bool // hosts that run it are asked to go to the release before
	Propose   bool
}

// AppWithdrawResult says what the channels offer now.
type AppWithdrawResult struct {
	Format     int                     `json:"format"`
	Withdrawn  string                  `json:"withdrawn"` // target name
	Directives []*release.AppDirective `json:"directives"`
	Warnings   []string                `json:"warnings,omitempty"`

	Proposal *publisher.Proposal `json:"-"`
}

// WithdrawApp takes a release of an application back: hosts can no longer install it.
// Directives that name it move to the newest older release, or halt. OS releases that name
// it can then be installed only by hosts that have it; they are told of as warnings.
func (s *Site) WithdrawApp(ctx context.Context, in AppWithdrawOptions) (*AppWithdrawResult, error) {
	if in.Reason == "" || len(in.Reason) > 500 {
		return nil, errors.New("withdraw: want a reason of at most 500 bytes")
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	list, err := appReleases(set, in.Publisher, in.Name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(l listedApp) bool { return l.Version == in.Version })
	if i < 0 {
		return nil, fmt.Errorf("withdraw: app %s/%s %s: %w", in.Publisher, in.Name, in.Version, errNoApp)
	}
	role := publisher.AppRole(in.Publisher)
	r := &AppWithdrawResult{Format: 1, Withdrawn: list[i].Target.Name, Directives: []*release.AppDirective{}}
	if err := set.Withdraw(role, r.Withdrawn, publisher.Withdrawal{Reason: in.Reason, Time: s.opt.Now()}); err != nil {
		return nil, err
	}
	moved, err := s.moveAppDirectives(set, in, slices.Delete(slices.Clone(list), i, i+1))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(moved)) {
		r.Directives = append(r.Directives, moved[name])
	}
	if r.Warnings, err = s.namedBy(set, list[i]); err != nil {
		return nil, err
	}
	if in.Propose {
		if r.Proposal, err = s.propose(set, ring, nil, "", nil); err == nil {
			r.Proposal.AppDirectives, err = encodeAppDirectives(moved)
		}
		return r, err
	}
	if err := set.Sign(role, s.expires(role), ring); err != nil {
		return nil, err
	}
	contents, err := s.putAppDirectives(set, ring, moved)
	if err != nil {
		return nil, err
	}
	if err := s.commit(ctx, set, ring, contents, false); err != nil {
		return nil, err
	}
	r.Warnings = append(r.Warnings, s.warnings(set)...)
	return r, s.record("app-withdraw", map[string]any{"target": r.Withdrawn, "reason": in.Reason})
}

// moveAppDirectives returns the directives that have to change, left being what is still
// published, newest first.
func (s *Site) moveAppDirectives(published *publisher.Set, in AppWithdrawOptions, left []listedApp) (map[string]*release.AppDirective, error) {
	moved := map[string]*release.AppDirective{}
	for _, channel := range published.Channels() {
		old, err := s.appDirective(published, channel, in.Name)
		if err != nil {
			return nil, err
		}
		if old == nil || old.Publisher != in.Publisher || old.Version != in.Version {
			continue
		}
		d := *old
		if i := slices.IndexFunc(left, func(l listedApp) bool { return l.Version.Compare(in.Version) < 0 }); i >= 0 {
			d.Version, d.Permille, d.ComeDown = left[i].Version, 1000, in.ComeDown
			d.Salt = appRolloutSalt(channel, in.Name, d.Version)
		} else if in.ComeDown {
			return nil, fmt.Errorf("withdraw %s: there is no older release for hosts to come down to", in.Version)
		} else {
			d.Paused = true
		}
		moved[release.AppDirectiveName(channel, in.Name)] = &d
	}
	return moved, nil
}

// namedBy warns of the OS releases that name a release of an application.
func (s *Site) namedBy(set *publisher.Set, app listedApp) (warnings []string, err error) {
	for _, channel := range set.Channels() {
		list, err := releases(set, channel)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			m, err := s.manifest(l.Target)
			if err != nil {
				return nil, err
			}
			for _, a := range m.Apps {
				if a.Publisher == app.Publisher && a.Name == app.Name && a.Version == app.Version.String() {
					warnings = append(warnings, fmt.Sprintf("release %s of %s for %s names it: hosts that lack it cannot install that release", l.Version, channel, l.Compatible))
				}
			}
		}
	}
	return warnings, nil
}
