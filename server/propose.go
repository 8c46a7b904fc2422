package server

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// propose makes a proposal of what has changed in set.
func (s *Site) propose(set *publisher.Set, ring *publisher.Ring, files map[string][]byte, channel string, d *release.Directive) (*publisher.Proposal, error) {
	base, err := s.metadata()
	if err != nil {
		return nil, err
	}
	p, err := set.Propose(base, ring, s.opt.Now(), s.expires)
	if err != nil {
		return nil, err
	}
	maps.Copy(p.Files, files)
	if d != nil {
		if p.Directives[channel], err = d.Encode(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Authority proposes a change of who may sign. It is never published directly: `proposal
// apply` does so when all thresholds are reached.
func (s *Site) Authority(c publisher.AuthorityChange) (*publisher.Proposal, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if err := set.Change(c); err != nil {
		return nil, err
	}
	return s.propose(set, ring, nil, "", nil)
}

// RenewRoot proposes a root that says the same for longer.
func (s *Site) RenewRoot() (*publisher.Proposal, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if err := set.RenewRoot(); err != nil {
		return nil, err
	}
	return s.propose(set, ring, nil, "", nil)
}

// ApplyResult says what was published.
type ApplyResult struct {
	Format   int              `json:"format"`
	Roles    []publisher.Role `json:"roles"` // those that the proposal changed, as they are now
	Changes  []string         `json:"changes"`
	Warnings []string         `json:"warnings,omitempty"`
}

// Apply publishes a proposal that has all its signatures.
func (s *Site) Apply(ctx context.Context, p *publisher.Proposal) (*ApplyResult, error) {
	words, err := p.Describe()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if p.IsFirst() {
		return s.applyFirst(ctx, ring, p, words)
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	if p.IsRoot() {
		files, err := set.AdoptRoot(p, ring, s.opt.Now(), s.online())
		if err != nil {
			return nil, err
		}
		if err := s.write(ctx, set, files); err != nil {
			return nil, err
		}
	} else if err := s.applyRoles(ctx, set, ring, p); err != nil {
		return nil, err
	}
	return s.applied(set, p, words)
}

func (s *Site) applied(set *publisher.Set, p *publisher.Proposal, words []string) (*ApplyResult, error) {
	r := &ApplyResult{Format: 1, Changes: words, Warnings: s.warnings(set)}
	for _, role := range set.Roles() {
		if slices.ContainsFunc(p.Documents, func(d publisher.Document) bool { return d.Role == role.Name }) {
			r.Roles = append(r.Roles, role)
		}
	}
	return r, s.record("apply", words)
}

// applyFirst begins the repository of a site that was made with the public halves of keys.
func (s *Site) applyFirst(ctx context.Context, ring *publisher.Ring, p *publisher.Proposal, words []string) (*ApplyResult, error) {
	if _, err := os.Stat(s.repo("metadata/timestamp.json")); !gone(err) {
		return nil, fmt.Errorf("the repository has begun already: %w", publisher.ErrStale)
	}
	// What a run left that stopped half-way has never been of use to anybody.
	left, err := filepath.Glob(s.repo("metadata/*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		if err := s.medium.Remove(path); err != nil {
			return nil, err
		}
	}
	set, files, err := publisher.Found(p, ring, s.opt.Now(), s.online(), s.expires)
	if err != nil {
		return nil, err
	}
	if _, err := s.beginWith(ctx, set, ring, files); err != nil {
		return nil, err
	}
	return s.applied(set, p, words)
}

func (s *Site) applyRoles(ctx context.Context, set *publisher.Set, ring *publisher.Ring, p *publisher.Proposal) error {
	if err := set.Adopt(p, ring, s.expires); err != nil {
		return err
	}
	contents, err := s.newContents(ctx, set, p)
	if err != nil {
		return err
	}
	for _, channel := range slices.Sorted(maps.Keys(p.Directives)) {
		d, err := release.DecodeDirective(p.Directives[channel])
		if err != nil {
			return err
		}
		if d.Channel != channel {
			return fmt.Errorf("proposal: the directive for %s is one for %s", channel, d.Channel)
		}
		f, err := s.putDirective(set, ring, channel, d)
		if err != nil {
			return err
		}
		contents = append(contents, f)
	}
	more, err := s.applyAppDirectives(set, ring, p.AppDirectives)
	if err != nil {
		return err
	}
	return s.commit(ctx, set, ring, append(contents, more...), false)
}

// newContents returns the contents of all targets that the proposal adds, after making
// sure that the payloads of new releases are here and whole.
func (s *Site) newContents(ctx context.Context, set *publisher.Set, p *publisher.Proposal) ([]publisher.File, error) {
	var contents []publisher.File
	for _, d := range p.Documents {
		targets, err := set.Targets(d.Role)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			b, ok := p.Files[t.Name]
			if !ok {
				if _, err := s.content(t); err != nil {
					return nil, err
				}
				continue
			}
			if release.DigestOf(b) != t.Digest || int64(len(b)) != t.Size {
				return nil, fmt.Errorf("proposal: the content of %s is not what was signed", t.Name)
			}
			list, _, err := payloadsOf(t.Name, b)
			if err != nil {
				return nil, fmt.Errorf("proposal: %w", err)
			}
			for _, blob := range list {
				f, err := s.openBlob(ctx, blob)
				if err != nil {
					return nil, err
				}
				f.Close()
			}
			contents = append(contents, publisher.File{Path: t.Path(), Data: bytes.Clone(b)})
		}
	}
	return contents, nil
}

// AddChannel delegates a new channel with the keys of an existing one. It publishes
// directly, or returns a proposal if asked to.
func (s *Site) AddChannel(ctx context.Context, name, like string, propose bool) (*publisher.Proposal, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	c := publisher.Channel{Name: name}
	if c.Releases, err = set.Authority(publisher.OSRole(like)); err != nil {
		return nil, err
	}
	if c.Fleet, err = set.Authority(publisher.FleetRole(like)); err != nil {
		return nil, err
	}
	if err := set.AddChannel(c); err != nil {
		return nil, err
	}
	if propose {
		return s.propose(set, ring, nil, "", nil)
	}
	for _, role := range set.Changed() {
		if err := set.Sign(role, s.expires(role), ring); err != nil {
			return nil, err
		}
	}
	if err := s.commit(ctx, set, ring, nil, false); err != nil {
		return nil, err
	}
	return nil, s.record("channel", name)
}
