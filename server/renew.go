package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/signing/publisher"
)

// RenewOptions say what to sign anew.
type RenewOptions struct {
	Roles []string // roles of people to sign as well: targets, os-CHANNEL
	All   bool     // online roles even if they are not due
	// Skip makes versions higher by this many, after a restore. With role targets the
	// release log begins anew, too, as another one.
	Skip    int64
	Propose bool // make a proposal of Roles instead of signing them here
}

// RenewResult says what was signed.
type RenewResult struct {
	Format   int              `json:"format"`
	Renewed  []publisher.Role `json:"renewed"`
	Next     time.Time        `json:"next"` // renew again before this
	Warnings []string         `json:"warnings,omitempty"`

	Proposal *publisher.Proposal `json:"-"`
}

// Renew signs the timestamp anew, and what else is due: snapshot and directives when less
// than half their life is left. Without Roles it takes the server's own keys only.
func (s *Site) Renew(ctx context.Context, in RenewOptions) (*RenewResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	set.Skip(in.Skip)
	for _, role := range in.Roles {
		if role == publisher.RoleRoot || role == publisher.RoleSnapshot || role == publisher.RoleTimestamp {
			return nil, fmt.Errorf("renew %s: want targets or os-CHANNEL; root is renewed by `root DIR renew`, the others always", role)
		}
		if err := set.Renew(role); err != nil {
			return nil, fmt.Errorf("renew: %w", err)
		}
	}
	if in.Skip > 0 && slices.Contains(in.Roles, publisher.RoleTargets) {
		// Hosts may have seen a longer log than the one that came back.
		if err := restartLog(set); err != nil {
			return nil, err
		}
	}
	r := &RenewResult{Format: 1}
	if in.Propose {
		r.Proposal, err = s.propose(set, ring, nil, "", nil)
		return r, err
	}
	done := slices.Clone(in.Roles)
	keepSnapshot := true
	for _, role := range set.Roles() {
		due := in.All || in.Skip > 0 || role.Expires.Sub(s.opt.Now()) < s.settings.Lifetimes.of(role.Name)/2
		switch {
		case role.Name == publisher.RoleSnapshot:
			keepSnapshot = !due
		case strings.HasPrefix(role.Name, "fleet-") && due:
			if err := set.Renew(role.Name); err != nil {
				return nil, err
			}
			done = append(done, role.Name)
		}
	}
	for _, role := range done {
		if err := set.Sign(role, s.expires(role), ring); err != nil {
			return nil, err
		}
	}
	if !keepSnapshot || len(done) > 0 {
		done = append(done, publisher.RoleSnapshot)
	}
	if err := s.commit(ctx, set, ring, nil, keepSnapshot); err != nil {
		return nil, err
	}
	done = append(done, publisher.RoleTimestamp)
	for _, role := range set.Roles() {
		if slices.Contains(done, role.Name) {
			r.Renewed = append(r.Renewed, role)
		}
	}
	r.Next = s.nextRenewal(set)
	r.Warnings = s.warnings(set)
	if len(done) == 1 {
		// A timer renews the timestamp every hour; that is no history.
		return r, nil
	}
	return r, s.record("renew", done)
}

func restartLog(set *publisher.Set) error {
	p, had, err := set.Log()
	if err != nil || !had {
		return err
	}
	if p, err = restarted(p); err != nil {
		return err
	}
	return set.SetLog(p)
}

// nextRenewal is when the first online role has half its life left.
func (s *Site) nextRenewal(set *publisher.Set) time.Time {
	var next time.Time
	for _, r := range set.Roles() {
		if !publisher.IsOnline(r.Name) {
			continue
		}
		if t := r.Expires.Add(-s.settings.Lifetimes.of(r.Name) / 2); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next
}

// Check returns the warnings about roles, as an error if there are any. It needs no key
// and changes nothing: it is for a timer that watches the one that renews.
func (s *Site) Check() error {
	set, err := s.metadata()
	if err != nil {
		return err
	}
	if list := s.warnings(set); len(list) > 0 {
		return fmt.Errorf("check: %s", strings.Join(list, "; "))
	}
	return nil
}
