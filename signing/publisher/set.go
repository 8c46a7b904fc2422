package publisher

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The top-level roles.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

// OSRole signs the releases of a channel; FleetRole signs its directive, online.
func OSRole(channel string) string { return "os-" + channel }

// FleetRole is the role that signs a fleet's directive.
func FleetRole(fleet string) string { return "fleet-" + fleet }

// AppRole is the role that signs the applications of a publisher.
func AppRole(publisher string) string { return "app-" + publisher }

// Source reads a repository's metadata directory.
type Source interface {
	// Metadata returns one file of the metadata directory, or an error that is fs.ErrNotExist.
	Metadata(name string, limit int64) ([]byte, error)
	// MetadataNames returns the names of all files there.
	MetadataNames() ([]string, error)
}

// Set is the metadata of one repository. It is not safe for concurrent use.
type Set struct {
	root      *rootDoc
	rootBytes []byte
	targets   *targetsDoc
	delegated map[string]*targetsDoc
	snapshot  *snapshotDoc
	timestamp *timestampDoc
	nextRoot  *rootDoc // whose online keys sign too, while it is being published
	prevRoot  *rootDoc // nil if root is the first one

	highest map[string]int64 // newest version of each role that the directory holds
	changed map[string]bool  // roles edited since Open
	signed  map[string]bool  // of these, the ones signed again
}

// Open reads and verifies the newest metadata. Expiry is not looked at: whoever lets
// metadata expire must be able to renew it.
func Open(src Source) (*Set, error) {
	s := &Set{delegated: map[string]*targetsDoc{}, highest: map[string]int64{}, changed: map[string]bool{}, signed: map[string]bool{}}
	names, err := src.MetadataNames()
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	for _, name := range names {
		if v, role, ok := splitName(name); ok && v <= maxHonest {
			s.highest[role] = max(s.highest[role], v)
		}
	}
	if err := s.openRoots(src); err != nil {
		return nil, err
	}
	if err := s.openOnline(src); err != nil {
		return nil, err
	}
	return s, s.openTargets(src)
}

// maxHonest is the highest version that a publisher reaches by publishing: one a second,
// for 34 years. A higher one is a thief's, who wants hosts to refuse all that follow; the
// keys that signed it are replaced, and versions go on from the honest ones.
const maxHonest = 1 << 30

// splitName takes "7.os-stable.json" apart.
func splitName(name string) (version int64, role string, ok bool) {
	number, rest, found := strings.Cut(name, ".")
	role, suffixed := strings.CutSuffix(rest, ".json")
	v, err := strconv.ParseInt(number, 10, 64)
	return v, role, found && suffixed && err == nil && v > 0 && role != ""
}

func fileName(version int64, role string) string {
	return strconv.FormatInt(version, 10) + "." + role + ".json"
}

func (s *Set) openRoots(src Source) error {
	for v := int64(1); v <= max(1, s.highest[RoleRoot]); v++ {
		name := fileName(v, RoleRoot)
		b, err := src.Metadata(name, MaxMetadata)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		next, err := parse[metadata.RootType](b)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if next.Signed.Version != v {
			return fmt.Errorf("open %s: got version %d, want %d", name, next.Signed.Version, v)
		}
		if s.root != nil {
			if err := s.root.VerifyDelegate(RoleRoot, next); err != nil {
				return fmt.Errorf("open %s: not signed by root %d: %w", name, v-1, err)
			}
		}
		if err := next.VerifyDelegate(RoleRoot, next); err != nil {
			return fmt.Errorf("open %s: not signed by itself: %w", name, err)
		}
		s.prevRoot, s.root, s.rootBytes = s.root, next, b
	}
	return nil
}

func (s *Set) openOnline(src Source) error {
	b, err := src.Metadata("timestamp.json", MaxMetadata)
	if err != nil {
		return fmt.Errorf("open timestamp.json: %w", err)
	}
	if s.timestamp, err = parse[metadata.TimestampType](b); err != nil {
		return fmt.Errorf("open timestamp.json: %w", err)
	}
	if err := verifyOnline(s, RoleTimestamp, s.timestamp); err != nil {
		return fmt.Errorf("open timestamp.json: %w", err)
	}
	if v := s.timestamp.Signed.Version; v <= maxHonest {
		s.highest[RoleTimestamp] = v
	}
	want := s.timestamp.Signed.Meta["snapshot.json"]
	b, name, err := fetch(src, RoleSnapshot, want)
	if err != nil {
		return err
	}
	if s.snapshot, err = parse[metadata.SnapshotType](b); err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	if err := verifyOnline(s, RoleSnapshot, s.snapshot); err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	return sameVersion(name, s.snapshot.Signed.Version, want.Version)
}

// verifyOnline accepts what the root before the newest one accepts as well: after the
// loss of an online key, a new root is written before there is anything that it accepts,
// and a run that stops there must be made good by the next one.
func verifyOnline[T metadata.Roles](s *Set, role string, doc *metadata.Metadata[T]) error {
	err := s.root.VerifyDelegate(role, doc)
	if err != nil && s.prevRoot != nil && s.prevRoot.VerifyDelegate(role, doc) == nil {
		return nil
	}
	return err
}

// fetch reads the file of a role that meta describes and compares it with meta.
func fetch(src Source, role string, meta *metadata.MetaFiles) ([]byte, string, error) {
	name := fileName(meta.Version, role)
	b, err := src.Metadata(name, MaxMetadata)
	if err != nil {
		return nil, name, fmt.Errorf("open %s: %w", name, err)
	}
	if err := meta.VerifyLengthHashes(b); err != nil {
		return nil, name, fmt.Errorf("open %s: is not the file that was signed: %w", name, err)
	}
	return b, name, nil
}

func sameVersion(name string, got, want int64) error {
	if got != want {
		return fmt.Errorf("open %s: got version %d, want %d", name, got, want)
	}
	return nil
}

func (s *Set) openTargets(src Source) error {
	for _, file := range slices.Sorted(maps.Keys(s.snapshot.Signed.Meta)) {
		role := strings.TrimSuffix(file, ".json")
		b, name, err := fetch(src, role, s.snapshot.Signed.Meta[file])
		if err != nil {
			return err
		}
		doc, err := parse[metadata.TargetsType](b)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if err := sameVersion(name, doc.Signed.Version, s.snapshot.Signed.Meta[file].Version); err != nil {
			return err
		}
		if role == RoleTargets {
			s.targets = doc
		} else {
			s.delegated[role] = doc
		}
	}
	if s.targets == nil {
		return fmt.Errorf("open metadata: the snapshot names no targets.json")
	}
	return s.verifyTargets(s.root, s.targets)
}

// verifyTargets checks targets and all delegated roles against the given delegators.
func (s *Set) verifyTargets(root *rootDoc, targets *targetsDoc) error {
	if err := root.VerifyDelegate(RoleTargets, targets); err != nil {
		return fmt.Errorf("verify targets: %w", err)
	}
	for _, role := range slices.Sorted(maps.Keys(s.delegated)) {
		if err := targets.VerifyDelegate(role, s.delegated[role]); err != nil {
			return fmt.Errorf("verify %s: %w", role, err)
		}
	}
	return nil
}

// Channels returns the channels of the repository, sorted.
func (s *Set) Channels() []string { return s.named("os-") }

// Publishers returns the publishers of applications that the repository knows, sorted.
func (s *Set) Publishers() []string { return s.named("app-") }

// named returns what follows prefix in the names of delegated roles, sorted.
func (s *Set) named(prefix string) []string {
	var names []string
	for role := range s.delegated {
		if name, ok := strings.CutPrefix(role, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Role describes one role as it stands.
type Role struct {
	Name      string    `json:"name"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Threshold int       `json:"threshold"`
	Keys      []RoleKey `json:"keys"`
}

// RoleKey is a key that may sign for a role.
type RoleKey struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"` // as the publisher called it
}

// Roles returns all roles: root, targets, the delegated ones by name, snapshot, timestamp.
func (s *Set) Roles() []Role {
	roles := []Role{
		{Name: RoleRoot, Version: s.root.Signed.Version, Expires: s.root.Signed.Expires},
		{Name: RoleTargets, Version: s.targets.Signed.Version, Expires: s.targets.Signed.Expires},
	}
	for _, name := range slices.Sorted(maps.Keys(s.delegated)) {
		d := s.delegated[name].Signed
		roles = append(roles, Role{Name: name, Version: d.Version, Expires: d.Expires})
	}
	roles = append(roles,
		Role{Name: RoleSnapshot, Version: s.snapshot.Signed.Version, Expires: s.snapshot.Signed.Expires},
		Role{Name: RoleTimestamp, Version: s.timestamp.Signed.Version, Expires: s.timestamp.Signed.Expires})
	names := s.keyNames()
	for i := range roles {
		ids, threshold, _ := s.authority(roles[i].Name)
		roles[i].Threshold = threshold
		for _, id := range ids {
			roles[i].Keys = append(roles[i].Keys, RoleKey{ID: id, Name: names[id]})
		}
	}
	return roles
}

// authority returns who signs for a role, according to its delegator.
func (s *Set) authority(role string) (ids []string, threshold int, keys map[string]*metadata.Key) {
	return authorityOf(s.root, s.targets, role)
}

func authorityOf(root *rootDoc, targets *targetsDoc, role string) (ids []string, threshold int, keys map[string]*metadata.Key) {
	if r := root.Signed.Roles[role]; r != nil {
		return r.KeyIDs, r.Threshold, root.Signed.Keys
	}
	if targets != nil && targets.Signed.Delegations != nil {
		for _, r := range targets.Signed.Delegations.Roles {
			if r.Name == role {
				return r.KeyIDs, r.Threshold, targets.Signed.Delegations.Keys
			}
		}
	}
	return nil, 0, nil
}

// RootVersion returns the version of the newest root and the SHA-256 of its file.
func (s *Set) RootVersion() (version int64, digest [sha256.Size]byte) {
	return s.root.Signed.Version, sha256.Sum256(s.rootBytes)
}

// IsTopLevel reports whether a role is one that root names.
func (s *Set) IsTopLevel(role string) bool { return s.root.Signed.Roles[role] != nil }

// MetadataPath is where the repository keeps the current file of targets or of a
// delegated role; "" if there is no such role.
func (s *Set) MetadataPath(role string) string {
	meta := s.snapshot.Signed.Meta[role+".json"]
	if meta == nil {
		return ""
	}
	return "metadata/" + fileName(meta.Version, role)
}

// MetadataFiles returns the names of the files in the metadata directory that make up
// this set, without the roots.
func (s *Set) MetadataFiles() []string {
	files := []string{"timestamp.json", fileName(s.snapshot.Signed.Version, RoleSnapshot)}
	for file, meta := range s.snapshot.Signed.Meta {
		files = append(files, fileName(meta.Version, strings.TrimSuffix(file, ".json")))
	}
	slices.Sort(files)
	return files
}
