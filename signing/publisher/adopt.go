package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrStale means that a proposal was made for an earlier state of the repository.
var ErrStale = errors.New("the repository has changed since the proposal was made; make a new one")

// Changed returns the roles that were edited since Open, root first, sorted.
func (s *Set) Changed() []string {
	return slices.SortedFunc(maps.Keys(s.changed), func(a, b string) int {
		if rank(a) != rank(b) {
			return rank(a) - rank(b)
		}
		return strings.Compare(a, b)
	})
}

func rank(role string) int {
	switch role {
	case RoleRoot:
		return 0
	case RoleTargets:
		return 1
	}
	return 2
}

// IsFirst reports whether the proposal begins a repository.
func (p *Proposal) IsFirst() bool { return len(p.Root) == 0 }

// IsRoot reports whether the proposal publishes a new root.
func (p *Proposal) IsRoot() bool { return len(p.Documents) == 1 && p.Documents[0].Role == RoleRoot }

// complete refuses a proposal that lacks signatures.
func (p *Proposal) complete() error {
	requirements, err := p.Requirements()
	if err != nil {
		return err
	}
	for _, r := range requirements {
		if !r.Reached {
			return &ThresholdError{Role: r.Role + " (by " + r.By + ")", Have: len(r.Signed), Want: r.Threshold, Missing: r.Missing}
		}
	}
	return nil
}

// Adopt takes a complete proposal that does not concern root into the set, as changed
// and signed roles; Seal publishes it. Online roles that new delegations concern are
// signed again with the ring.
func (s *Set) Adopt(p *Proposal, ring *Ring, expires func(role string) time.Time) error {
	if err := p.complete(); err != nil {
		return err
	}
	o, err := p.open()
	if err != nil {
		return fmt.Errorf("proposal: %w", err)
	}
	if !bytes.Equal(p.Root, s.rootBytes) {
		return fmt.Errorf("root: %w", ErrStale)
	}
	for _, d := range p.Documents {
		if err := s.follows(d, o.documents[d.Role]); err != nil {
			return err
		}
	}
	for role, doc := range o.documents {
		if role == RoleTargets {
			s.targets = doc
		} else {
			s.delegated[role] = doc
		}
		s.highest[role] = doc.Signed.Version
		s.changed[role], s.signed[role] = true, true
	}
	if err := s.adoptDelegations(ring, expires); err != nil {
		return err
	}
	if err := s.verifyTargets(s.root, s.targets); err != nil {
		return fmt.Errorf("adopt proposal: %w", err)
	}
	return nil
}

// follows checks that after is the next version of what the set holds.
func (s *Set) follows(d Document, after *targetsDoc) error {
	now, err := s.role(d.Role)
	if err != nil {
		if len(d.Before) > 0 {
			return fmt.Errorf("%s: %w", d.Role, ErrStale)
		}
	} else {
		b, err := marshal(now)
		if err != nil {
			return err
		}
		if !bytes.Equal(b, d.Before) {
			return fmt.Errorf("%s: %w", d.Role, ErrStale)
		}
	}
	if after.Signed.Version <= s.highest[d.Role] {
		return fmt.Errorf("%s: version %d is taken: %w", d.Role, after.Signed.Version, ErrStale)
	}
	return nil
}

// adoptDelegations makes the delegated roles agree with the top-level targets: roles that
// are new begin empty, online roles whose keys changed are signed by the new ones.
func (s *Set) adoptDelegations(ring *Ring, expires func(role string) time.Time) error {
	if s.targets.Signed.Delegations == nil {
		return nil
	}
	for _, d := range s.targets.Signed.Delegations.Roles {
		doc := s.delegated[d.Name]
		if doc != nil && s.targets.VerifyDelegate(d.Name, doc) == nil {
			continue
		}
		if doc == nil {
			s.delegated[d.Name] = metadata.Targets()
		}
		if _, err := s.edit(d.Name); err != nil {
			return err
		}
		if err := s.Sign(d.Name, expires(d.Name), ring); err != nil {
			return fmt.Errorf("the new delegation does not accept role %s as it is: %w", d.Name, err)
		}
	}
	return nil
}

// AdoptRoot checks a complete proposal for root and returns the files to be written, in
// this order, each durable before the next:
//
//  1. if the new root names other online keys: a snapshot and a timestamp signed for both
//     roots. A stop here leaves the old root with metadata that it accepts.
//  2. the new root. From then on hosts follow it, and everything published verifies.
//
// If an online key that the old root names is lost, nothing can be signed for both: then the new
// root comes first, and hosts refuse what there is until, a moment later, the timestamp
// follows; after a stop in between, `renew` does that.
//
// Targets must be acceptable to the new root already, because only people can sign it:
// add a key, sign targets with it, and only then remove the old one.
func (s *Set) AdoptRoot(p *Proposal, ring *Ring, now time.Time, until Online) ([]File, error) {
	if !p.IsRoot() || p.IsFirst() {
		return nil, errors.New("adopt root: the proposal is not for root")
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	if !bytes.Equal(p.Root, s.rootBytes) {
		return nil, fmt.Errorf("root: %w", ErrStale)
	}
	o, err := p.open()
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	next := o.nextRoot
	if next.Signed.Version != s.root.Signed.Version+1 {
		return nil, fmt.Errorf("adopt root: got version %d, want %d", next.Signed.Version, s.root.Signed.Version+1)
	}
	if err := checkRootLife(next, now); err != nil {
		return nil, err
	}
	if err := s.root.VerifyDelegate(RoleRoot, next); err != nil {
		return nil, fmt.Errorf("adopt root: %w", err)
	}
	if err := next.VerifyDelegate(RoleRoot, next); err != nil {
		return nil, fmt.Errorf("adopt root: %w", err)
	}
	if err := next.VerifyDelegate(RoleTargets, s.targets); err != nil {
		return nil, fmt.Errorf("adopt root: the published targets would not verify any more; sign it with the new key first (renew --role targets --key NEW.pem): %w", err)
	}
	root := File{Path: "metadata/" + fileName(next.Signed.Version, RoleRoot), Data: p.Documents[0].After}
	files, lost, err := s.sealForBoth(next, ring, until)
	if err != nil {
		return nil, err
	}
	s.prevRoot, s.root, s.rootBytes, s.nextRoot = s.root, next, root.Data, nil
	if lost {
		return append([]File{root}, files...), nil
	}
	return append(files, root), nil
}

// sealForBoth returns a snapshot and a timestamp that the root in force and the next one
// both accept, or nothing if those that are published are such. If keys that the root in
// force names are lost, the next root alone accepts the result.
func (s *Set) sealForBoth(next *rootDoc, ring *Ring, until Online) (files []File, lost bool, err error) {
	if next.VerifyDelegate(RoleSnapshot, s.snapshot) == nil && next.VerifyDelegate(RoleTimestamp, s.timestamp) == nil {
		return nil, false, nil
	}
	s.nextRoot = next
	files, err = s.Seal(ring, until, false)
	var lacking *ThresholdError
	if errors.As(err, &lacking) {
		lost = true
		old := s.root
		s.root, s.nextRoot = next, nil
		files, err = s.Seal(ring, until, false)
		s.root = old
	}
	if err == nil {
		err = next.VerifyDelegate(RoleSnapshot, s.snapshot)
	}
	if err == nil {
		err = next.VerifyDelegate(RoleTimestamp, s.timestamp)
	}
	if err != nil {
		return nil, lost, fmt.Errorf("adopt root: the new online keys are not here: %w", err)
	}
	return files, lost, nil
}

// MinRootLife is how long a root must still be valid when it is published.
const MinRootLife = 90 * 24 * time.Hour

func checkRootLife(root *rootDoc, now time.Time) error {
	if limit := now.Add(MinRootLife); root.Signed.Expires.Before(limit) {
		return fmt.Errorf("adopt root: expires %s, want no earlier than %s: renew it again", root.Signed.Expires.Format(time.DateOnly), limit.Format(time.DateOnly))
	}
	return nil
}
