package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ProposalFormat is the format of proposal files that this code writes and reads.
const ProposalFormat = 1

// MaxProposal bounds a proposal file, in bytes.
const MaxProposal = 64 << 20

// Proposal is a change of signed documents that collects signatures. It is one file that
// can be carried to any machine: it holds all that is needed to see what changes and to
// check who has signed, and no secret.
// Source of the format: docs/format-repository.md, "Proposal".
type Proposal struct {
	Format    int        `json:"format"`
	Created   time.Time  `json:"created"`
	Root      []byte     `json:"root"`    // the root in force when it was made; empty: a repository begins
	Targets   []byte     `json:"targets"` // the top-level targets in force then
	Documents []Document `json:"documents"`
	// Files are the contents of new targets, by target name.
	Files map[string][]byte `json:"files"`
	// Directives are published together with the documents, by channel. They are not
	// what is signed here: the server's own key signs them.
	Directives map[string][]byte `json:"directives"`
	// AppDirectives are the same for applications, by target name; nil: removed.
	AppDirectives map[string][]byte `json:"appDirectives,omitempty"`
}

// Document is one signed document: as it is, and as it shall be.
type Document struct {
	Role   string `json:"role"`
	Before []byte `json:"before"` // empty: the role is new
	After  []byte `json:"after"`  // with the signatures that have come so far
}

// Propose turns the changes of s that are not online roles' own into a proposal. Roles
// are signed with what the ring has; expires gives their expiry.
func (s *Set) Propose(base *Set, ring *Ring, now time.Time, expires func(role string) time.Time) (*Proposal, error) {
	p := &Proposal{Format: ProposalFormat, Created: second(now), Root: base.rootBytes, Files: map[string][]byte{}, Directives: map[string][]byte{}}
	var err error
	if p.Targets, err = marshal(base.targets); err != nil {
		return nil, err
	}
	for _, role := range s.Changed() {
		if IsOnline(role) {
			continue
		}
		d := Document{Role: role}
		if role == RoleRoot {
			s.root.Signed.Expires = second(expires(role))
			d.Before = base.rootBytes
			d.After, err = marshal(s.root)
		} else {
			var doc *targetsDoc
			if doc, err = s.role(role); err != nil {
				return nil, err
			}
			doc.Signed.Expires = second(expires(role))
			if d.After, err = marshal(doc); err == nil {
				if old, oldErr := base.role(role); oldErr == nil {
					d.Before, err = marshal(old)
				}
			}
		}
		if err != nil {
			return nil, err
		}
		p.Documents = append(p.Documents, d)
	}
	if len(p.Documents) == 0 {
		return nil, errors.New("propose: nothing has changed")
	}
	return p, p.signPresent(ring)
}

// signPresent adds the signatures of all keys that are present and open.
func (p *Proposal) signPresent(ring *Ring) error {
	requirements, err := p.Requirements()
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range requirements {
		for _, k := range r.Missing {
			ids = append(ids, k.ID)
		}
	}
	_, err = signPresent(ring, ids, 0, p.Sign)
	return err
}

// Encode returns the file's content.
func (p *Proposal) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode proposal: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseProposal reads a proposal file, which need not come from a friend.
func ParseProposal(b []byte) (*Proposal, error) {
	if len(b) > MaxProposal {
		return nil, fmt.Errorf("proposal: got %d bytes, want at most %d", len(b), MaxProposal)
	}
	var p Proposal
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	if p.Format != ProposalFormat {
		return nil, fmt.Errorf("proposal: format: got %d, want %d", p.Format, ProposalFormat)
	}
	seen := map[string]bool{}
	for _, doc := range p.Documents {
		if seen[doc.Role] || doc.Role == RoleSnapshot || doc.Role == RoleTimestamp {
			return nil, fmt.Errorf("proposal: role %.80q stands twice or is not for people", doc.Role)
		}
		seen[doc.Role] = true
	}
	switch {
	case p.IsFirst() && (!seen[RoleRoot] || !seen[RoleTargets] || len(p.Targets) > 0):
		return nil, errors.New("proposal: want root and targets to begin a repository")
	case len(seen) == 0 || !p.IsFirst() && seen[RoleRoot] && len(seen) > 1:
		return nil, errors.New("proposal: want root alone, or other roles")
	}
	if _, err := p.open(); err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	return &p, nil
}

// opened is a proposal with its documents parsed.
type opened struct {
	root      *rootDoc
	targets   *targetsDoc // as proposed, if it is
	nextRoot  *rootDoc    // nil unless root is proposed
	documents map[string]*targetsDoc
	before    map[string]*targetsDoc
}

func (p *Proposal) open() (*opened, error) {
	o := &opened{documents: map[string]*targetsDoc{}, before: map[string]*targetsDoc{}}
	var err error
	if !p.IsFirst() {
		if o.root, err = parse[metadata.RootType](p.Root); err != nil {
			return nil, fmt.Errorf("root in force: %w", err)
		}
		if o.targets, err = parse[metadata.TargetsType](p.Targets); err != nil {
			return nil, fmt.Errorf("targets in force: %w", err)
		}
	}
	for _, d := range p.Documents {
		if d.Role == RoleRoot {
			if o.nextRoot, err = parse[metadata.RootType](d.After); err != nil {
				return nil, fmt.Errorf("proposed root: %w", err)
			}
			if !bytes.Equal(d.Before, p.Root) {
				return nil, errors.New("proposed root: does not follow the root in force")
			}
			continue
		}
		doc, err := parse[metadata.TargetsType](d.After)
		if err != nil {
			return nil, fmt.Errorf("proposed %s: %w", d.Role, err)
		}
		o.documents[d.Role] = doc
		if len(d.Before) > 0 {
			if o.before[d.Role], err = parse[metadata.TargetsType](d.Before); err != nil {
				return nil, fmt.Errorf("%s in force: %w", d.Role, err)
			}
		}
	}
	if t := o.documents[RoleTargets]; t != nil {
		o.targets = t
	}
	if p.IsFirst() {
		o.root = o.nextRoot
	}
	if o.root == nil || o.targets == nil {
		return nil, errors.New("there is no root or no targets")
	}
	return o, nil
}

// Requirement is one threshold that a proposal has to reach.
type Requirement struct {
	Role      string    `json:"role"`
	By        string    `json:"by"` // the document that demands it
	Threshold int       `json:"threshold"`
	Signed    []RoleKey `json:"signed"`
	Missing   []RoleKey `json:"missing"`
	Reached   bool      `json:"reached"`
}

// Requirements returns all thresholds and who has signed. A root must reach the
// threshold of the root in force and its own.
func (p *Proposal) Requirements() ([]Requirement, error) {
	o, err := p.open()
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	names := (&Set{root: o.root, targets: o.targets}).keyNames()
	var list []Requirement
	for _, d := range p.Documents {
		if d.Role == RoleRoot {
			_ = rest(o.nextRoot.Signed.UnrecognizedFields, namesField, &names)
			if !p.IsFirst() {
				list = append(list, require(o.root, nil, RoleRoot, fmt.Sprintf("root %d, in force", o.root.Signed.Version), names, o.nextRoot))
			}
			list = append(list, require(o.nextRoot, nil, RoleRoot, fmt.Sprintf("root %d, proposed", o.nextRoot.Signed.Version), names, o.nextRoot))
			continue
		}
		by := fmt.Sprintf("root %d", o.root.Signed.Version)
		if d.Role != RoleTargets {
			by = fmt.Sprintf("targets %d", o.targets.Signed.Version)
		}
		list = append(list, require(o.root, o.targets, d.Role, by, names, o.documents[d.Role]))
	}
	return list, nil
}

func require[T metadata.Roles](root *rootDoc, targets *targetsDoc, role, by string, names map[string]string, doc *metadata.Metadata[T]) Requirement {
	ids, threshold, keys := authorityOf(root, targets, role)
	r := Requirement{Role: role, By: by, Threshold: threshold, Signed: []RoleKey{}, Missing: []RoleKey{}}
	valid := signedBy(doc, ids, keys)
	for _, id := range ids {
		k := RoleKey{ID: id, Name: names[id]}
		if valid[id] {
			r.Signed = append(r.Signed, k)
		} else {
			r.Missing = append(r.Missing, k)
		}
	}
	r.Reached = threshold > 0 && len(valid) >= threshold
	return r
}

// Sign adds key's signature to every document that it may sign; a key that may sign none
// is an error.
func (p *Proposal) Sign(key *PrivateKey) error {
	o, err := p.open()
	if err != nil {
		return fmt.Errorf("sign proposal: %w", err)
	}
	done := false
	for i, d := range p.Documents {
		var ids []string
		if d.Role == RoleRoot {
			ids = append(append(ids, o.root.Signed.Roles[RoleRoot].KeyIDs...), o.nextRoot.Signed.Roles[RoleRoot].KeyIDs...)
		} else {
			ids, _, _ = authorityOf(o.root, o.targets, d.Role)
		}
		for _, id := range ids {
			if id != key.Public.ID {
				continue
			}
			if d.Role == RoleRoot {
				p.Documents[i].After, err = resign(o.nextRoot, key)
			} else {
				p.Documents[i].After, err = resign(o.documents[d.Role], key)
			}
			if err != nil {
				return fmt.Errorf("sign proposal: %w", err)
			}
			done = true
			break
		}
	}
	if !done {
		return fmt.Errorf("sign proposal: key %.12s may not sign any document in it", key.Public.ID)
	}
	return nil
}

func resign[T metadata.Roles](doc *metadata.Metadata[T], key *PrivateKey) ([]byte, error) {
	if err := signWith(doc, key); err != nil {
		return nil, err
	}
	return marshal(doc)
}

// Merge takes over the signatures of another copy of the same proposal.
func (p *Proposal) Merge(q *Proposal) error {
	if len(p.Documents) != len(q.Documents) {
		return errors.New("merge proposals: they change other documents")
	}
	for i := range p.Documents {
		merge := mergeSignatures[metadata.TargetsType]
		if p.Documents[i].Role == RoleRoot {
			merge = mergeSignatures[metadata.RootType]
		}
		b, err := merge(p.Documents[i].After, q.Documents[i].After)
		if err != nil {
			return fmt.Errorf("merge proposals: %s: %w", p.Documents[i].Role, err)
		}
		p.Documents[i].After = b
	}
	return nil
}

func mergeSignatures[T metadata.Roles](a, b []byte) ([]byte, error) {
	x, err := parse[T](a)
	if err != nil {
		return nil, err
	}
	y, err := parse[T](b)
	if err != nil {
		return nil, err
	}
	signatures := append(x.Signatures, y.Signatures...)
	x.ClearSignatures()
	y.ClearSignatures()
	p, err := marshal(x)
	if err != nil {
		return nil, err
	}
	q, err := marshal(y)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(p, q) {
		return nil, errors.New("what is signed differs")
	}
	seen := map[string]bool{}
	for _, s := range signatures {
		if !seen[s.KeyID] {
			x.Signatures = append(x.Signatures, s)
		}
		seen[s.KeyID] = true
	}
	return marshal(x)
}
