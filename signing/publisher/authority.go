package publisher

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// namesField is the field of root's and targets' signed part that tells what people call
// a key. A name inside the key itself would change the key's id.
const namesField = "x-twinkeel-key-names"

// Authority is who may sign for a role.
type Authority struct {
	Keys      []PublicKey
	Threshold int
}

// Plan describes a new repository.
type Plan struct {
	Root, Targets, Snapshot, Timestamp Authority
	Channels                           []Channel
	Names                              map[string]string // key id to what people call it
	Log                                *translog.Policy  // nil: there is no release log
	Now                                time.Time
	Expires                            func(role string) time.Time
}

// Channel delegates releases of one channel, and its directive.
type Channel struct {
	Name     string
	Releases Authority // role os-NAME
	Fleet    Authority // role fleet-NAME
}

func (a Authority) check(role string) error {
	if a.Threshold < 1 || a.Threshold > len(a.Keys) {
		return fmt.Errorf("role %s: got a threshold of %d with %d keys", role, a.Threshold, len(a.Keys))
	}
	return nil
}

func (a Authority) ids() []string {
	var ids []string
	for _, k := range a.Keys {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (a Authority) put(keys map[string]*metadata.Key) {
	for _, k := range a.Keys {
		keys[k.ID] = k.key
	}
}

// AddChannel delegates a new channel. Targets and the two new roles have to be signed.
func (s *Set) AddChannel(c Channel) error {
	if err := release.CheckName("channel", c.Name); err != nil {
		return err
	}
	if s.delegated[OSRole(c.Name)] != nil {
		return fmt.Errorf("channel %s exists already", c.Name)
	}
	if err := s.delegate(OSRole(c.Name), "os/"+c.Name+"/*/*", c.Releases); err != nil {
		return err
	}
	return s.delegate(FleetRole(c.Name), "fleet/"+c.Name+"/*", c.Fleet)
}

// AddPublisher delegates the applications of a publisher; names are what people call the
// keys that are new, by id. Targets and the new role have to be signed.
func (s *Set) AddPublisher(name string, by Authority, names map[string]string) error {
	if err := release.CheckName("publisher", name); err != nil {
		return err
	}
	if s.delegated[AppRole(name)] != nil {
		return fmt.Errorf("publisher %s exists already", name)
	}
	if err := s.delegate(AppRole(name), "apps/"+name+"/*/*", by); err != nil {
		return err
	}
	for i := range by.Keys {
		c := AuthorityChange{Add: &by.Keys[i], Name: names[by.Keys[i].ID]}
		if err := nameKeys(&s.targets.Signed.UnrecognizedFields, c, s.targets.Signed.Delegations.Keys); err != nil {
			return err
		}
	}
	return nil
}

// delegate begins a role, which alone is asked for the targets that fit path.
func (s *Set) delegate(role, path string, by Authority) error {
	doc, err := s.edit(RoleTargets)
	if err != nil {
		return err
	}
	if err := by.check(role); err != nil {
		return err
	}
	if doc.Signed.Delegations == nil {
		doc.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	doc.Signed.Delegations.Roles = append(doc.Signed.Delegations.Roles, metadata.DelegatedRole{
		Name: role, KeyIDs: by.ids(), Threshold: by.Threshold, Terminating: true, Paths: []string{path},
	})
	by.put(doc.Signed.Delegations.Keys)
	s.delegated[role] = metadata.Targets()
	_, err = s.edit(role)
	return err
}

// Authority returns who may sign for a role.
func (s *Set) Authority(role string) (Authority, error) {
	ids, threshold, keys := s.authority(role)
	if threshold == 0 {
		return Authority{}, fmt.Errorf("there is no role %s", role)
	}
	a := Authority{Threshold: threshold}
	for _, id := range ids {
		key := keys[id]
		if key == nil {
			return Authority{}, fmt.Errorf("role %s: key %.12s is not defined", role, id)
		}
		pub, err := key.ToPublicKey()
		if err != nil {
			return Authority{}, fmt.Errorf("role %s: key %.12s: %w", role, id, err)
		}
		public, err := newPublicKey(pub)
		if err != nil {
			return Authority{}, fmt.Errorf("role %s: %w", role, err)
		}
		a.Keys = append(a.Keys, public)
	}
	return a, nil
}

func (s *Set) keyNames() map[string]string {
	names := map[string]string{}
	// A document without readable names is still a document: people then see key ids.
	if s.targets != nil {
		_ = rest(s.targets.Signed.UnrecognizedFields, namesField, &names)
	}
	_ = rest(s.root.Signed.UnrecognizedFields, namesField, &names)
	return names
}

// AuthorityChange is an edit of who may sign for a role.
type AuthorityChange struct {
	Role      string
	Add       *PublicKey // with Name
	Name      string
	Remove    string // key id, or a beginning of one that fits no other key of the role
	Threshold int    // 0: as it is
}

// Change applies c in memory: to root for the top-level roles, to targets for delegated
// ones. It leaves root unsigned, as only a proposal may publish a root.
func (s *Set) Change(c AuthorityChange) error {
	ids, threshold, _ := s.authority(c.Role)
	if threshold == 0 {
		return fmt.Errorf("there is no role %s", c.Role)
	}
	ids = slices.Clone(ids)
	if c.Add != nil {
		if slices.Contains(ids, c.Add.ID) {
			return fmt.Errorf("role %s has key %.12s already", c.Role, c.Add.ID)
		}
		ids = append(ids, c.Add.ID)
		slices.Sort(ids)
	}
	if c.Remove != "" {
		left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.HasPrefix(id, c.Remove) })
		if len(left) != len(ids)-1 {
			return fmt.Errorf("role %s: got %d keys whose id begins with %q, want one", c.Role, len(ids)-len(left), c.Remove)
		}
		ids = left
	}
	if c.Threshold != 0 {
		threshold = c.Threshold
	}
	if threshold < 1 || threshold > len(ids) {
		return fmt.Errorf("role %s: got a threshold of %d with %d keys", c.Role, threshold, len(ids))
	}
	if s.root.Signed.Roles[c.Role] != nil {
		return s.changeRoot(c, ids, threshold)
	}
	return s.changeTargets(c, ids, threshold)
}

func (s *Set) changeRoot(c AuthorityChange, ids []string, threshold int) error {
	if err := s.editRoot(); err != nil {
		return err
	}
	r := &s.root.Signed
	if c.Add != nil {
		r.Keys[c.Add.ID] = c.Add.key
	}
	r.Roles[c.Role].KeyIDs, r.Roles[c.Role].Threshold = ids, threshold
	used := map[string]bool{}
	for _, role := range r.Roles {
		for _, id := range role.KeyIDs {
			used[id] = true
		}
	}
	maps.DeleteFunc(r.Keys, func(id string, _ *metadata.Key) bool { return !used[id] })
	return nameKeys(&r.UnrecognizedFields, c, r.Keys)
}

func (s *Set) changeTargets(c AuthorityChange, ids []string, threshold int) error {
	doc, err := s.edit(RoleTargets)
	if err != nil {
		return err
	}
	d := doc.Signed.Delegations
	if d == nil {
		return errors.New("targets delegates to no role")
	}
	if c.Add != nil {
		d.Keys[c.Add.ID] = c.Add.key
	}
	used := map[string]bool{}
	for i := range d.Roles {
		if d.Roles[i].Name == c.Role {
			d.Roles[i].KeyIDs, d.Roles[i].Threshold = ids, threshold
		}
		for _, id := range d.Roles[i].KeyIDs {
			used[id] = true
		}
	}
	maps.DeleteFunc(d.Keys, func(id string, _ *metadata.Key) bool { return !used[id] })
	// A role whose signatures no longer suffice has to be signed along with its new
	// delegation; an online one is when that is published.
	if !IsOnline(c.Role) && doc.VerifyDelegate(c.Role, s.delegated[c.Role]) != nil {
		if _, err := s.edit(c.Role); err != nil {
			return err
		}
	}
	return nameKeys(&doc.Signed.UnrecognizedFields, c, d.Keys)
}

// nameKeys records the name of a new key and forgets the names of keys that are gone.
func nameKeys(fields *map[string]any, c AuthorityChange, keys map[string]*metadata.Key) error {
	names := map[string]string{}
	if err := rest(*fields, namesField, &names); err != nil {
		return err
	}
	if c.Add != nil && c.Name != "" {
		names[c.Add.ID] = c.Name
	}
	maps.DeleteFunc(names, func(id, _ string) bool { return keys[id] == nil })
	return setRest(fields, namesField, names)
}

// RenewRoot starts a new version of root with nothing changed but its expiry.
func (s *Set) RenewRoot() error { return s.editRoot() }

// editRoot starts the next version of root, once.
func (s *Set) editRoot() error {
	if s.changed[RoleRoot] {
		return nil
	}
	next, err := clone(s.root)
	if err != nil {
		return err
	}
	next.Signed.Version++
	next.ClearSignatures()
	s.root = next
	s.changed[RoleRoot] = true
	return nil
}
