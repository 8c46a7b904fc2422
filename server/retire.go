package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// MinKeep is how many releases of each machine a channel always keeps listed.
const MinKeep = 2

// RetireOptions say which releases need not be listed any longer.
type RetireOptions struct {
	Channel string // "": all channels, and applications
	Keep    int    // newest releases of each machine that stay
	DryRun  bool
	Propose bool
}

// RetireResult says what was or would be retired.
type RetireResult struct {
	Format  int      `json:"format"`
	DryRun  bool     `json:"dryRun"`
	Retired []string `json:"retired"` // target names

	Proposal *publisher.Proposal `json:"-"`
}

// Retire takes releases off a channel's list that no host needs there: every host reads
// the whole list whenever it changes. What stays are the newest ones of each machine, and
// what the directive offers with all that is newer. Hosts that run a retired release still
// get the newest one, with its delta, and go back as before, as both need only what is
// on their own disk. Retired releases stay in the release log; their payloads are collected
// by GC, and their versions are used up.
func (s *Site) Retire(ctx context.Context, in RetireOptions) (*RetireResult, error) {
	if in.Keep < MinKeep {
		return nil, fmt.Errorf("retire: got %d releases to keep, want at least %d", in.Keep, MinKeep)
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	r := &RetireResult{Format: 1, DryRun: in.DryRun, Retired: []string{}}
	for _, channel := range set.Channels() {
		if in.Channel != "" && channel != in.Channel {
			continue
		}
		old, err := s.superfluous(set, channel, in.Keep)
		if err != nil {
			return nil, err
		}
		if len(old) == 0 {
			continue
		}
		for _, l := range old {
			r.Retired = append(r.Retired, l.Target.Name)
		}
		if err := retire(set, channel, old); err != nil {
			return nil, err
		}
	}
	if in.Channel == "" {
		names, err := s.retireApps(set, in.Keep)
		if err != nil {
			return nil, err
		}
		r.Retired = append(r.Retired, names...)
	}
	if len(r.Retired) == 0 {
		return r, nil
	}
	if in.DryRun {
		return r, nil
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if in.Propose {
		r.Proposal, err = s.propose(set, ring, nil, "", nil)
		return r, err
	}
	for _, role := range set.Changed() {
		if err := set.Sign(role, s.expires(role), ring); err != nil {
			return nil, err
		}
	}
	if err := s.commit(ctx, set, ring, nil, false); err != nil {
		return nil, err
	}
	return r, s.record("retire", r.Retired)
}

// superfluous returns the releases of a channel that may go.
func (s *Site) superfluous(set *publisher.Set, channel string, keep int) ([]listed, error) {
	list, err := releases(set, channel) // newest first
	if err != nil {
		return nil, err
	}
	d, err := s.directive(set, channel)
	if err != nil {
		return nil, err
	}
	seen := map[string]int{}
	return slices.DeleteFunc(list, func(l listed) bool {
		seen[l.Compatible]++
		return seen[l.Compatible] <= keep || d != nil && l.Version.Compare(d.Version) >= 0
	}), nil
}

func retire(set *publisher.Set, channel string, old []listed) error {
	role := publisher.OSRole(channel)
	used, err := set.Retired(role)
	if err != nil {
		return err
	}
	for _, l := range old {
		if err := set.DropTarget(role, l.Target.Name); err != nil {
			return err
		}
		if v, err := release.ParseVersion(used[l.Compatible]); err != nil || l.Version.Compare(v) > 0 {
			used[l.Compatible] = l.Version.String()
		}
	}
	return set.SetRetired(role, used)
}

// checkRetired refuses a version that may have been one of a retired release. key is the
// machine, or the application, that the role counts versions for.
func checkRetired(set *publisher.Set, role, key string, version release.Version) error {
	used, err := set.Retired(role)
	if err != nil {
		return err
	}
	text, ok := used[key]
	if !ok {
		return nil
	}
	last, err := release.ParseVersion(text)
	if err != nil {
		return fmt.Errorf("role %s: retired versions: %w", role, err)
	}
	if version.Compare(last) <= 0 {
		return errors.New("release " + version.String() + ": versions up to " + text + " were retired and are used once: take a higher one")
	}
	return nil
}
