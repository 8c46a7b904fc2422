package publisher

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
)

// Describe says in words what the proposal changes, one sentence a line. All of it is
// worked out from the documents themselves.
func (p *Proposal) Describe() ([]string, error) {
	o, err := p.open()
	if err != nil {
		return nil, fmt.Errorf("proposal: %w", err)
	}
	w := &words{names: (&Set{root: o.root, targets: o.targets}).keyNames(), files: p.Files}
	for _, d := range p.Documents {
		if d.Role == RoleRoot {
			_ = rest(o.nextRoot.Signed.UnrecognizedFields, namesField, &w.names)
			before := o.root
			if p.IsFirst() {
				before = metadata.Root(time.Time{})
				before.Signed.Version, before.Signed.Roles = 0, nil
			}
			w.root(before, o.nextRoot)
			continue
		}
		before := o.before[d.Role]
		if before == nil {
			before = metadata.Targets(time.Time{})
			before.Signed.Version = 0
		}
		if err := w.role(d.Role, before, o.documents[d.Role]); err != nil {
			return nil, err
		}
	}
	for _, channel := range slices.Sorted(maps.Keys(p.Directives)) {
		directive, err := release.DecodeDirective(p.Directives[channel])
		if err != nil {
			return nil, fmt.Errorf("proposal: channel %.80q: %w", channel, err)
		}
		w.say("channel %s then offers %s to %d of 1000 hosts", channel, directive.Version, directive.Permille)
	}
	for _, name := range slices.Sorted(maps.Keys(p.AppDirectives)) {
		if len(p.AppDirectives[name]) == 0 {
			w.say("%q is then removed", name)
			continue
		}
		directive, err := release.DecodeAppDirective(p.AppDirectives[name])
		if err != nil {
			return nil, fmt.Errorf("proposal: %.80q: %w", name, err)
		}
		w.say("channel %s then offers app %s/%s %s to %d of 1000 hosts", directive.Channel, directive.Publisher, directive.Name, directive.Version, directive.Permille)
	}
	if p.IsFirst() {
		w.say("a repository begins: there is no root in force")
		return w.lines, nil
	}
	w.say("the root in force has the SHA-256 %s", hexDigest(p.Root))
	return w.lines, nil
}

type words struct {
	names map[string]string
	files map[string][]byte
	lines []string
}

func (w *words) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *words) key(id string) string { return label(RoleKey{ID: id, Name: w.names[id]}) }

func (w *words) expiry(what string, before, after time.Time) {
	if before.Equal(after) {
		w.say("%s expires on %s, as before", what, utc(after))
		return
	}
	if before.IsZero() {
		w.say("%s expires on %s", what, utc(after))
		return
	}
	w.say("%s expires on %s instead of %s", what, utc(after), utc(before))
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func (w *words) root(before, after *rootDoc) {
	w.say("root goes from version %d to %d", before.Signed.Version, after.Signed.Version)
	w.expiry("root", before.Signed.Expires, after.Signed.Expires)
	if before.Signed.ConsistentSnapshot != after.Signed.ConsistentSnapshot {
		w.say("consistent snapshots change to %t: hosts would no longer find files", after.Signed.ConsistentSnapshot)
	}
	for _, role := range union(before.Signed.Roles, after.Signed.Roles) {
		old, now := before.Signed.Roles[role], after.Signed.Roles[role]
		if old == nil {
			old = &metadata.Role{}
		}
		if now == nil {
			now = &metadata.Role{}
		}
		w.authority(role, old.KeyIDs, now.KeyIDs, old.Threshold, now.Threshold)
	}
}

func (w *words) authority(role string, oldKeys, newKeys []string, oldThreshold, newThreshold int) {
	for _, id := range newKeys {
		if !slices.Contains(oldKeys, id) {
			w.say("role %s gets key %s", role, w.key(id))
		}
	}
	for _, id := range oldKeys {
		if !slices.Contains(newKeys, id) {
			w.say("role %s loses key %s", role, w.key(id))
		}
	}
	if oldThreshold != newThreshold || len(oldKeys) != len(newKeys) {
		w.say("role %s needs %d of %d signatures instead of %d of %d", role, newThreshold, len(newKeys), oldThreshold, len(oldKeys))
	}
}

func (w *words) role(role string, before, after *targetsDoc) error {
	w.say("%s goes from version %d to %d", role, before.Signed.Version, after.Signed.Version)
	w.expiry(role, before.Signed.Expires, after.Signed.Expires)
	if err := w.log(role, before, after); err != nil {
		return err
	}
	for _, name := range union(before.Signed.Targets, after.Signed.Targets) {
		old, now := before.Signed.Targets[name], after.Signed.Targets[name]
		switch {
		case old == nil:
			w.say("%s adds %q", role, name)
			if err := w.content(name, now); err != nil {
				return err
			}
		case now == nil:
			w.say("%s withdraws %q", role, name)
		case !old.Equal(*now):
			w.say("%s replaces the content of %q", role, name)
			if err := w.content(name, now); err != nil {
				return err
			}
		}
	}
	old, now := delegations(before), delegations(after)
	for _, name := range union(old, now) {
		a, b := old[name], now[name]
		switch {
		case a == nil:
			w.say("%s delegates %v to the new role %s", role, b.Paths, name)
			a = &metadata.DelegatedRole{}
		case b == nil:
			w.say("%s delegates no longer to %s", role, name)
			continue
		case !slices.Equal(a.Paths, b.Paths) || a.Terminating != b.Terminating:
			w.say("%s delegates %v to %s instead of %v", role, b.Paths, name, a.Paths)
		}
		w.authority(name, a.KeyIDs, b.KeyIDs, a.Threshold, b.Threshold)
	}
	return nil
}

// content describes a new target by the file that the proposal carries, which must be
// the one that the document names.
func (w *words) content(name string, f *metadata.TargetFiles) error {
	t, err := target(name, f)
	if err != nil {
		return err
	}
	b, ok := w.files[name]
	if !ok {
		w.say("  its content is not in this file; SHA-256 %s", t.Digest)
		return nil
	}
	if release.DigestOf(b) != t.Digest || int64(len(b)) != t.Size {
		return fmt.Errorf("proposal: the content of %q is not what is to be signed", name)
	}
	if strings.HasPrefix(name, "apps/") {
		return w.app(name, b)
	}
	m, err := release.DecodeManifest(b)
	if err != nil {
		return fmt.Errorf("proposal: %q: %w", name, err)
	}
	w.say("  release %s for %s, epoch %d, attempt %d", m.Version, m.Compatible, m.Epoch, m.Attempt)
	for _, i := range m.Images {
		w.say("  image %s: %d bytes, verity root %s", i.Name, i.Size, i.Root)
	}
	for _, a := range m.Apps {
		w.say("  app %s %q, digest %s", a.Name, a.Version, a.Digest)
	}
	return nil
}

// app describes a release of an application by what a host would grant it.
func (w *words) app(name string, b []byte) error {
	m, err := release.DecodeAppManifest(b)
	if err != nil {
		return fmt.Errorf("proposal: %q: %w", name, err)
	}
	digest, err := m.Digest()
	if err != nil {
		return fmt.Errorf("proposal: %q: %w", name, err)
	}
	w.say("  app %s/%s %s, class %s, isolation %s, attempt %d, digest %s", m.Publisher, m.Name, m.Version, m.Class, m.Isolation.Level, m.Attempt, digest)
	w.say("  image: %d bytes, verity root %s", m.Image.Size, m.Image.Root)
	w.say("  runs %q as %d:%d, network %s", m.Run.Argv, m.Run.UID, m.Run.GID, m.Network.Mode)
	for _, p := range m.Permissions {
		w.say("  asks for %s %q", p.Name, p.Value)
	}
	return nil
}

func delegations(doc *targetsDoc) map[string]*metadata.DelegatedRole {
	m := map[string]*metadata.DelegatedRole{}
	if doc.Signed.Delegations != nil {
		for i := range doc.Signed.Delegations.Roles {
			m[doc.Signed.Delegations.Roles[i].Name] = &doc.Signed.Delegations.Roles[i]
		}
	}
	return m
}

func union[V any](a, b map[string]V) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(names)
	return slices.Compact(names)
}
