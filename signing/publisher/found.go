package publisher

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// draft makes the metadata of a repository without releases, unsigned.
func draft(plan Plan) (*Set, error) {
	s := &Set{
		root:      metadata.Root(second(plan.Expires(RoleRoot))),
		targets:   metadata.Targets(second(plan.Expires(RoleTargets))),
		delegated: map[string]*targetsDoc{}, highest: map[string]int64{RoleRoot: 1},
		changed: map[string]bool{}, signed: map[string]bool{},
	}
	s.beginOnline(plan.Expires)
	for role, a := range map[string]Authority{RoleRoot: plan.Root, RoleTargets: plan.Targets, RoleSnapshot: plan.Snapshot, RoleTimestamp: plan.Timestamp} {
		if err := a.check(role); err != nil {
			return nil, err
		}
		s.root.Signed.Roles[role] = &metadata.Role{KeyIDs: a.ids(), Threshold: a.Threshold}
		a.put(s.root.Signed.Keys)
	}
	if err := setRest(&s.root.Signed.UnrecognizedFields, namesField, plan.Names); err != nil {
		return nil, err
	}
	if _, err := s.edit(RoleTargets); err != nil {
		return nil, err
	}
	if err := setRest(&s.targets.Signed.UnrecognizedFields, namesField, plan.Names); err != nil {
		return nil, err
	}
	if plan.Log != nil {
		if err := s.SetLog(*plan.Log); err != nil {
			return nil, err
		}
	}
	for _, c := range plan.Channels {
		if err := s.AddChannel(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Set) beginOnline(expires func(role string) time.Time) {
	s.snapshot = metadata.Snapshot(second(expires(RoleSnapshot)))
	s.timestamp = metadata.Timestamp(second(expires(RoleTimestamp)))
}

// New makes the metadata of a repository without releases, signed with the keys of the
// ring, and returns its files in the order in which they may be written.
func New(plan Plan, ring *Ring) (*Set, []File, error) {
	s, err := draft(plan)
	if err != nil {
		return nil, nil, err
	}
	ids := s.root.Signed.Roles[RoleRoot].KeyIDs
	if _, err := signPresent(ring, ids, 0, func(k *PrivateKey) error { return signWith(s.root, k) }); err != nil {
		return nil, nil, fmt.Errorf("sign root: %w", err)
	}
	if err := s.root.VerifyDelegate(RoleRoot, s.root); err != nil {
		return nil, nil, fmt.Errorf("sign root: %w", err)
	}
	for _, role := range slices.Sorted(maps.Keys(s.changed)) {
		if err := s.Sign(role, plan.Expires(role), ring); err != nil {
			return nil, nil, err
		}
	}
	if s.rootBytes, err = marshal(s.root); err != nil {
		return nil, nil, err
	}
	files, err := s.Seal(ring, Online{Now: plan.Now, Snapshot: plan.Expires(RoleSnapshot), Timestamp: plan.Expires(RoleTimestamp)}, false)
	if err != nil {
		return nil, nil, err
	}
	return s, append([]File{s.rootFile()}, files...), nil
}

func (s *Set) rootFile() File {
	return File{Path: "metadata/" + fileName(s.root.Signed.Version, RoleRoot), Data: s.rootBytes}
}

// Draft makes the same metadata as a proposal: of the keys of people, nobody needs to be
// here. Found publishes it.
func Draft(plan Plan) (*Proposal, error) {
	s, err := draft(plan)
	if err != nil {
		return nil, err
	}
	p := &Proposal{Format: ProposalFormat, Created: second(plan.Now), Files: map[string][]byte{}, Directives: map[string][]byte{}}
	root, err := marshal(s.root)
	if err != nil {
		return nil, err
	}
	p.Documents = append(p.Documents, Document{Role: RoleRoot, After: root})
	for _, role := range s.Changed() {
		if IsOnline(role) {
			continue
		}
		doc, err := s.role(role)
		if err != nil {
			return nil, err
		}
		doc.Signed.Expires = second(plan.Expires(role))
		b, err := marshal(doc)
		if err != nil {
			return nil, err
		}
		p.Documents = append(p.Documents, Document{Role: role, After: b})
	}
	return p, nil
}

// Found begins a repository out of a complete draft; the ring has the online keys. It
// returns the files in the order in which they may be written.
func Found(p *Proposal, ring *Ring, now time.Time, until Online, expires func(role string) time.Time) (*Set, []File, error) {
	if !p.IsFirst() {
		return nil, nil, errors.New("found repository: the proposal is for one that exists")
	}
	if err := p.complete(); err != nil {
		return nil, nil, err
	}
	o, err := p.open()
	if err != nil {
		return nil, nil, fmt.Errorf("proposal: %w", err)
	}
	if v := o.nextRoot.Signed.Version; v != 1 {
		return nil, nil, fmt.Errorf("found repository: root: got version %d, want 1", v)
	}
	if err := checkRootLife(o.nextRoot, now); err != nil {
		return nil, nil, err
	}
	s := &Set{root: o.nextRoot, targets: o.targets, delegated: map[string]*targetsDoc{}, highest: map[string]int64{RoleRoot: 1},
		changed: map[string]bool{}, signed: map[string]bool{}}
	s.beginOnline(expires)
	for _, d := range p.Documents {
		if d.Role == RoleRoot {
			s.rootBytes = d.After
			continue
		}
		doc := o.documents[d.Role]
		if d.Role != RoleTargets {
			s.delegated[d.Role] = doc
		}
		if v := doc.Signed.Version; v != 1 || len(doc.Signed.Targets) > 0 {
			return nil, nil, fmt.Errorf("found repository: %s: got version %d with %d targets, want 1 and none", d.Role, v, len(doc.Signed.Targets))
		}
		s.highest[d.Role] = 1
		s.changed[d.Role], s.signed[d.Role] = true, true
	}
	if err := s.adoptDelegations(ring, expires); err != nil {
		return nil, nil, err
	}
	files, err := s.Seal(ring, until, false)
	if err != nil {
		return nil, nil, err
	}
	return s, append([]File{s.rootFile()}, files...), nil
}
