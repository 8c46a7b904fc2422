package signing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// edge is one step of the walk: parent delegates to the role called name.
type edge struct {
	parent *role
	name   string
}

// find walks the delegations in pre-order, as the TUF specification says, until a role
// lists the target. Each role is checked with the keys of the one that led to it; a
// terminating delegation ends the search below it.
func (s *session) find(ctx context.Context, src Source, target string) (file, error) {
	if err := s.freshTop(); err != nil {
		return file{}, err
	}
	visited := map[string]bool{}
	stack := []edge{{nil, metadata.TARGETS}}
	for len(stack) > 0 {
		e := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[e.name] {
			continue
		}
		if len(visited) > maxDelegations {
			return file{}, untrusted("target %s: more than %d delegations lead to it", target, maxDelegations)
		}
		visited[e.name] = true
		r, err := s.role(ctx, src, e.parent, e.name)
		if err != nil {
			return file{}, err
		}
		if err := s.fresh(r.name, r.expires); err != nil {
			return file{}, err
		}
		if f, ok := r.targets[target]; ok {
			return f, nil
		}
		names, terminating := r.delegates(target)
		if terminating {
			stack = stack[:0]
		}
		for _, name := range slices.Backward(names) {
			stack = append(stack, edge{r, name})
		}
	}
	return file{}, fmt.Errorf("target %s: no role lists it: %w", target, fs.ErrNotExist)
}

// freshTop checks the expiry of root, timestamp and snapshot.
func (s *session) freshTop() error {
	if s.lenient {
		return nil
	}
	if err := s.fresh(metadata.ROOT, s.core.Root.Signed.Expires); err != nil {
		return err
	}
	if err := s.fresh(metadata.TIMESTAMP, s.core.Timestamp.Signed.Expires); err != nil {
		return err
	}
	return s.fresh(metadata.SNAPSHOT, s.core.Snapshot.Signed.Expires)
}

// delegates returns the roles that r trusts with a target, in order, up to and with the
// first terminating one.
func (r *role) delegates(target string) (names []string, terminating bool) {
	d := r.delegations
	if d == nil {
		return nil, false
	}
	for _, dr := range d.Roles {
		if !trustedWith(dr, target) {
			continue
		}
		names = append(names, dr.Name)
		if dr.Terminating {
			return names, true
		}
	}
	if d.Roles == nil && d.SuccinctRoles != nil {
		for _, bin := range d.SuccinctRoles.GetRolesForTarget(target) {
			names = append(names, bin.Name)
		}
		return names, true // by TAP 15, bins terminate
	}
	return names, false
}

// trustedWith reports whether a delegation covers a target.
func trustedWith(d metadata.DelegatedRole, target string) bool {
	for _, pattern := range d.Paths {
		if matches(pattern, target) {
			return true
		}
	}
	if len(d.Paths) > 0 || len(d.PathHashPrefixes) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(target))
	digits := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(d.PathHashPrefixes, func(p string) bool { return strings.HasPrefix(digits, p) })
}

// matches is the glob of TUF: no wildcard and no character class crosses a slash.
func matches(pattern, target string) bool {
	for more := true; more; {
		var p, element string
		var another bool
		p, pattern, more = strings.Cut(pattern, "/")
		element, target, another = strings.Cut(target, "/")
		if more != another {
			return false
		}
		if ok, err := path.Match(p, element); !ok || err != nil {
			return false
		}
	}
	return true
}

// names implements Client.Names.
func (s *session) names(ctx context.Context, src Source, name string) ([]string, error) {
	if err := s.freshTop(); err != nil {
		return nil, err
	}
	r, err := s.role(ctx, src, nil, metadata.TARGETS)
	if err != nil {
		return nil, err
	}
	if err := s.fresh(r.name, r.expires); err != nil {
		return nil, err
	}
	covers := func(string) bool { return true }
	if name != metadata.TARGETS {
		parent := r
		if r, err = s.role(ctx, src, parent, name); err != nil {
			return nil, err
		}
		if err := s.fresh(r.name, r.expires); err != nil {
			return nil, err
		}
		covers = func(target string) bool {
			names, _ := parent.delegates(target)
			return slices.Contains(names, name)
		}
	}
	var out []string
	for target := range r.targets {
		if covers(target) {
			out = append(out, target)
		}
	}
	slices.Sort(out)
	return out, nil
}
