package publisher

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/signing"
)

// Online says when snapshot and timestamp are signed, and until when.
type Online struct {
	Now       time.Time // hosts take it as proof that this moment has passed
	Snapshot  time.Time
	Timestamp time.Time
}

// Seal signs snapshot and timestamp over the changed roles, which are signed already,
// and returns the files to be written, in this order, each durable before the next:
//
//  1. the changed roles. Nobody asks for them yet: a host takes a role's version from the
//     snapshot. A stop here leaves files that nothing refers to.
//  2. the snapshot. Nobody asks for it yet: a host takes its version from the timestamp.
//  3. timestamp.json, which replaces the one before in one step. Until then hosts see the
//     old state, from then on the new one, and all that it names is there.
//
// keepSnapshot leaves the snapshot as it is if no role has changed.
func (s *Set) Seal(ring *Ring, until Online, keepSnapshot bool) ([]File, error) {
	var files []File
	for _, role := range slices.Sorted(maps.Keys(s.changed)) {
		if !s.signed[role] {
			return nil, fmt.Errorf("seal: role %s has changed and is not signed", role)
		}
		doc, err := s.role(role)
		if err != nil {
			return nil, err
		}
		b, err := marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("seal %s: %w", role, err)
		}
		s.snapshot.Signed.Meta[role+".json"] = metaFile(doc.Signed.Version, b)
		files = append(files, File{Path: "metadata/" + fileName(doc.Signed.Version, role), Data: b})
	}
	if len(s.changed) > 0 || !keepSnapshot {
		b, err := s.sealSnapshot(ring, until.Snapshot)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: "metadata/" + fileName(s.snapshot.Signed.Version, RoleSnapshot), Data: b})
	}
	b, err := s.sealTimestamp(ring, until)
	if err != nil {
		return nil, err
	}
	// The last look before anything leaves memory: what hosts will verify, verified.
	if err := s.verifyTargets(s.root, s.targets); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	clear(s.changed)
	clear(s.signed)
	return append(files, File{Path: "metadata/timestamp.json", Data: b}), nil
}

func metaFile(version int64, b []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(b)
	return &metadata.MetaFiles{
		Version: version,
		Length:  int64(len(b)),
		Hashes:  metadata.Hashes{"sha256": metadata.HexBytes(sum[:])},
	}
}

func (s *Set) sealSnapshot(ring *Ring, expires time.Time) ([]byte, error) {
	s.snapshot.Signed.Version = s.next(RoleSnapshot)
	s.snapshot.Signed.Expires = second(expires)
	if err := s.signOnline(RoleSnapshot, ring); err != nil {
		return nil, err
	}
	b, err := marshal(s.snapshot)
	if err != nil {
		return nil, fmt.Errorf("seal snapshot: %w", err)
	}
	s.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(s.snapshot.Signed.Version, b)}
	return b, nil
}

func (s *Set) sealTimestamp(ring *Ring, until Online) ([]byte, error) {
	s.timestamp.Signed.Version = s.next(RoleTimestamp)
	s.timestamp.Signed.Expires = second(until.Timestamp)
	if err := setRest(&s.timestamp.Signed.UnrecognizedFields, signing.SignedAtField, second(until.Now)); err != nil {
		return nil, err
	}
	if err := s.signOnline(RoleTimestamp, ring); err != nil {
		return nil, err
	}
	return marshal(s.timestamp)
}

// signOnline signs snapshot or timestamp, also with the keys that the next root names
// for it.
func (s *Set) signOnline(role string, ring *Ring) error {
	ids, threshold, _ := s.authority(role)
	have := map[string]bool{}
	all := ids
	if s.nextRoot != nil {
		all = slices.Concat(ids, s.nextRoot.Signed.Roles[role].KeyIDs)
	}
	sign := func(k *PrivateKey) error { have[k.Public.ID] = true; return signWith(s.timestamp, k) }
	s.timestamp.ClearSignatures()
	if role == RoleSnapshot {
		sign = func(k *PrivateKey) error { have[k.Public.ID] = true; return signWith(s.snapshot, k) }
		s.snapshot.ClearSignatures()
	}
	locked, err := signPresent(ring, all, 0, sign)
	if err != nil {
		return fmt.Errorf("sign %s: %w", role, err)
	}
	// The next root's keys do not count for the one in force.
	maps.DeleteFunc(have, func(id string, _ bool) bool { return !slices.Contains(ids, id) })
	return s.threshold(role, ids, threshold, have, locked)
}
