package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// VerifyResult says what was looked at and what is wrong.
type VerifyResult struct {
	Format   int      `json:"format"`
	Releases int      `json:"releases"`
	Payloads int      `json:"payloads"`
	Bytes    int64    `json:"bytes"` // of payloads
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings,omitempty"`
}

// Verify checks the repository as a host would, the release log, and every payload. quick
// compares only the sizes of payloads.
func (s *Site) Verify(ctx context.Context, quick bool) (*VerifyResult, error) {
	return s.verify(ctx, quick, func(*publisher.Set) time.Time { return s.opt.Now() })
}

// verify is Verify with a host whose clock stands where at says.
func (s *Site) verify(ctx context.Context, quick bool, at func(*publisher.Set) time.Time) (*VerifyResult, error) {
	r := &VerifyResult{Format: 1, Problems: []string{}}
	set, err := s.metadata()
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
		return r, nil
	}
	r.Warnings = s.warnings(set)
	inventory, err := s.inventory(set)
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
		return r, nil
	}
	r.Releases, r.Payloads = inventory.manifests, len(inventory.blobs)
	for _, b := range inventory.blobs {
		r.Bytes += b.Size
	}
	var targets []string
	roles := releaseRoles(set)
	for _, channel := range set.Channels() {
		roles = append(roles, publisher.FleetRole(channel))
	}
	for _, role := range roles {
		list, err := set.Targets(role)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			targets = append(targets, t.Name)
		}
	}
	if err := s.judge(ctx, overlay{site: s}, at(set), targets); err != nil {
		r.Problems = append(r.Problems, "a host would refuse it: "+err.Error())
	}
	if _, had, err := set.Log(); err == nil && had {
		log, err := s.VerifyLog(ctx)
		if err != nil {
			r.Problems = append(r.Problems, err.Error())
		} else {
			r.Problems = append(r.Problems, log.Problems...)
		}
	}
	for _, err := range s.checkPayloads(ctx, inventory, quick) {
		r.Problems = append(r.Problems, err.Error())
	}
	return r, ctx.Err()
}

// StatusResult describes a site.
type StatusResult struct {
	Format   int              `json:"format"`
	Profile  Profile          `json:"profile"`
	Roles    []publisher.Role `json:"roles"`
	Channels []ChannelStatus  `json:"channels"`
	// Publishers are those of applications.
	Publishers []PublisherStatus `json:"publishers,omitempty"`
	Log        *LogStatus        `json:"log,omitempty"`
	Warnings   []string          `json:"warnings,omitempty"`
}

// LogStatus is the release log as it stands.
type LogStatus struct {
	Origin string        `json:"origin"`
	Mode   translog.Mode `json:"mode"` // what hosts demand
	Size   int64         `json:"size"`
}

// ChannelStatus is what a channel holds and offers.
type ChannelStatus struct {
	Name      string             `json:"name"`
	Directive *release.Directive `json:"directive"`
	Releases  []ReleaseStatus    `json:"releases"` // newest first
	Withdrawn []WithdrawnStatus  `json:"withdrawn,omitempty"`
	// Apps are the directives of applications that are released apart.
	Apps []*release.AppDirective `json:"apps,omitempty"`
}

// ReleaseStatus is one release in a channel.
type ReleaseStatus struct {
	Version    release.Version `json:"version"`
	Compatible string          `json:"compatible"`
}

// WithdrawnStatus is a release that was taken back.
type WithdrawnStatus struct {
	Target string    `json:"target"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Status describes the site.
func (s *Site) Status() (*StatusResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	r := &StatusResult{Format: 1, Profile: s.settings.Profile, Roles: set.Roles(), Channels: []ChannelStatus{}, Warnings: s.warnings(set)}
	if p, had, err := set.Log(); err != nil {
		return nil, err
	} else if had {
		checkpoint, _, err := s.checkpoint(p, true, p.Origin)
		if err != nil {
			r.Warnings = append(r.Warnings, err.Error())
		}
		r.Log = &LogStatus{Origin: p.Origin, Mode: p.Mode, Size: checkpoint.Size}
	}
	for _, name := range set.Channels() {
		c := ChannelStatus{Name: name, Releases: []ReleaseStatus{}}
		if c.Directive, err = s.directive(set, name); err != nil {
			return nil, err
		}
		list, err := releases(set, name)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			c.Releases = append(c.Releases, ReleaseStatus{Version: l.Version, Compatible: l.Compatible})
		}
		if c.Withdrawn, err = withdrawnFrom(set, publisher.OSRole(name)); err != nil {
			return nil, err
		}
		if c.Apps, err = s.appDirectives(set, name); err != nil {
			return nil, err
		}
		r.Channels = append(r.Channels, c)
	}
	for _, name := range set.Publishers() {
		p, err := publisherStatus(set, name)
		if err != nil {
			return nil, err
		}
		r.Publishers = append(r.Publishers, p)
	}
	return r, nil
}

// withdrawnFrom returns what a role has taken back, by target name.
func withdrawnFrom(set *publisher.Set, role string) ([]WithdrawnStatus, error) {
	withdrawn, err := set.Withdrawn(role)
	if err != nil {
		return nil, err
	}
	var list []WithdrawnStatus
	for target, w := range withdrawn {
		list = append(list, WithdrawnStatus{Target: target, Reason: w.Reason, Time: w.Time})
	}
	sortBy(list, func(w WithdrawnStatus) string { return w.Target })
	return list, nil
}

// Damaged returns an error that sums up the problems, or nil.
func (r *VerifyResult) Damaged() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return fmt.Errorf("verify: %d problems: %s", len(r.Problems), strings.Join(r.Problems, "; "))
}
