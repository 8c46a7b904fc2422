package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// PromoteOptions name a release to be offered in another channel as well.
type PromoteOptions struct {
	From, To   string
	Version    release.Version
	Compatible string // "": for all machines that have it
	Rollout    RolloutStart
	Propose    bool
}

// PromoteResult says what the channel offers now.
type PromoteResult struct {
	Format    int                `json:"format"`
	From      string             `json:"from"`
	To        string             `json:"to"`
	Version   release.Version    `json:"version"`
	Machines  []string           `json:"compatible"`
	Directive *release.Directive `json:"directive"`
	Notes     []string           `json:"notes,omitempty"`
	Warnings  []string           `json:"warnings,omitempty"`

	Proposal *publisher.Proposal `json:"-"`
}

// Promote copies a release's manifest into another channel. Payloads are shared: what was
// tested there is, bit for bit, what is offered here.
func (s *Site) Promote(ctx context.Context, in PromoteOptions) (*PromoteResult, error) {
	if in.From == in.To {
		return nil, errors.New("promote: want two channels")
	}
	if err := in.Rollout.check(); err != nil {
		return nil, err
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	o := offering{channel: in.To, manifests: map[string][]byte{}, version: in.Version, start: in.Rollout, propose: in.Propose}
	if err := s.collect(set, in, o.manifests); err != nil {
		return nil, err
	}
	r := &PromoteResult{Format: 1, From: in.From, To: in.To, Version: in.Version}
	done, err := s.offer(ctx, set, ring, o)
	if err != nil {
		return nil, err
	}
	r.Directive, r.Notes, r.Proposal, r.Warnings = done.directive, done.notes, done.proposal, s.warnings(set)
	for machine := range o.manifests {
		r.Machines = append(r.Machines, machine)
	}
	if in.Propose {
		return r, nil
	}
	return r, s.record("promote", map[string]any{"from": in.From, "to": in.To, "version": in.Version})
}

// collect finds the manifests to be copied.
func (s *Site) collect(set *publisher.Set, in PromoteOptions, manifests map[string][]byte) error {
	from, err := releases(set, in.From)
	if err != nil {
		return err
	}
	if _, err := releases(set, in.To); err != nil {
		return err
	}
	there := 0
	for _, l := range from {
		if l.Version != in.Version || in.Compatible != "" && l.Compatible != in.Compatible {
			continue
		}
		name := release.TargetName(in.To, l.Compatible, l.Version)
		withdrawn, err := set.Withdrawn(publisher.OSRole(in.To))
		if err != nil {
			return err
		}
		if w, ok := withdrawn[name]; ok {
			return fmt.Errorf("promote: release %s was withdrawn from %s (%s)", in.Version, in.To, w.Reason)
		}
		t, found, err := set.Target(publisher.OSRole(in.To), name)
		if err != nil {
			return err
		}
		if found && t.Digest == l.Target.Digest {
			there++
			continue
		}
		if found {
			return fmt.Errorf("promote: channel %s has another release %s for %s", in.To, in.Version, l.Compatible)
		}
		if err := checkRetired(set, publisher.OSRole(in.To), l.Compatible, in.Version); err != nil {
			return fmt.Errorf("promote: %w", err)
		}
		if manifests[l.Compatible], err = s.content(l.Target); err != nil {
			return err
		}
	}
	switch {
	case len(manifests) == 0 && there > 0:
		return fmt.Errorf("promote: channel %s has release %s already: %w", in.To, in.Version, ErrNothingToDo)
	case len(manifests) == 0:
		return fmt.Errorf("promote: channel %s has no release %s", in.From, in.Version)
	}
	return nil
}
