package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// WithdrawOptions name a release to take back.
type WithdrawOptions struct {
	Channel    string
	Version    release.Version
	Compatible string // "": for all machines
	Reason     string
	ComeDown   bool // hosts that run it are asked to go to the release before
	Propose    bool
}

// WithdrawResult says what the channel offers now.
type WithdrawResult struct {
	Format    int                `json:"format"`
	Channel   string             `json:"channel"`
	Version   release.Version    `json:"version"`
	Withdrawn []string           `json:"withdrawn"` // target names
	Directive *release.Directive `json:"directive"`
	Warnings  []string           `json:"warnings,omitempty"`

	Proposal *publisher.Proposal `json:"-"`
}

// Withdraw takes a release out of a channel: hosts can no longer install it. If the
// directive names it, it moves to the newest release that is left, or halts.
func (s *Site) Withdraw(ctx context.Context, in WithdrawOptions) (*WithdrawResult, error) {
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
	list, err := releases(set, in.Channel)
	if err != nil {
		return nil, err
	}
	role := publisher.OSRole(in.Channel)
	r := &WithdrawResult{Format: 1, Channel: in.Channel, Version: in.Version}
	left := slices.DeleteFunc(slices.Clone(list), func(l listed) bool {
		return l.Version == in.Version && (in.Compatible == "" || l.Compatible == in.Compatible)
	})
	for _, l := range list {
		if slices.Contains(left, l) {
			continue
		}
		if err := set.Withdraw(role, l.Target.Name, publisher.Withdrawal{Reason: in.Reason, Time: s.opt.Now()}); err != nil {
			return nil, err
		}
		r.Withdrawn = append(r.Withdrawn, l.Target.Name)
	}
	if len(r.Withdrawn) == 0 {
		return nil, fmt.Errorf("withdraw: channel %s has no release %s", in.Channel, in.Version)
	}
	if r.Directive, err = s.directive(set, in.Channel); err != nil {
		return nil, err
	}
	moved, err := in.direct(r.Directive, left)
	if err != nil {
		return nil, err
	}
	if moved != nil {
		r.Directive = moved
	}
	if in.Propose {
		r.Proposal, err = s.propose(set, ring, nil, in.Channel, r.Directive)
		return r, err
	}
	if err := set.Sign(role, s.expires(role), ring); err != nil {
		return nil, err
	}
	var contents []publisher.File
	if moved != nil {
		f, err := s.putDirective(set, ring, in.Channel, moved)
		if err != nil {
			return nil, err
		}
		contents = append(contents, f)
	}
	if err := s.commit(ctx, set, ring, contents, false); err != nil {
		return nil, err
	}
	r.Warnings = s.warnings(set)
	return r, s.record("withdraw", map[string]any{"targets": r.Withdrawn, "reason": in.Reason, "directive": r.Directive})
}

// direct returns the directive after the withdrawal, or nil if it stays.
func (in WithdrawOptions) direct(old *release.Directive, left []listed) (*release.Directive, error) {
	named := slices.ContainsFunc(left, func(l listed) bool { return old != nil && l.Version == old.Version })
	if old == nil || named && !in.ComeDown {
		return nil, nil
	}
	d := *old
	// left is sorted, newest first: hosts go to the newest release that is no newer than
	// the one withdrawn, or than what they were offered.
	limit := old.Version
	if in.Version.Compare(limit) > 0 {
		limit = in.Version
	}
	i := slices.IndexFunc(left, func(l listed) bool { return l.Version.Compare(limit) <= 0 })
	if i < 0 {
		if in.ComeDown {
			return nil, fmt.Errorf("withdraw %s: there is no older release for hosts to come down to", in.Version)
		}
		d.Paused = true
		return &d, nil
	}
	if to := left[i].Version; to != d.Version {
		d.Version, d.Salt, d.Permille = to, rolloutSalt(in.Channel, to), 1000
	}
	d.ComeDown = in.ComeDown
	return &d, nil
}
