package publisher

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
)

// Target is one file that a role vouches for.
type Target struct {
	Name   string
	Digest release.Digest
	Size   int64 // bytes
}

// Path is where the repository keeps the target: the digest stands before the last
// element of its name (TUF's consistent snapshots).
func (t Target) Path() string {
	dir, file := path.Split(t.Name)
	return "targets/" + dir + t.Digest.String() + "." + file
}

// Withdrawal says why a target is no longer vouched for.
type Withdrawal = signing.Withdrawal

// Targets returns what a role vouches for, sorted by name.
func (s *Set) Targets(role string) ([]Target, error) {
	doc, err := s.role(role)
	if err != nil {
		return nil, err
	}
	list := make([]Target, 0, len(doc.Signed.Targets))
	for _, name := range slices.Sorted(maps.Keys(doc.Signed.Targets)) {
		t, err := target(name, doc.Signed.Targets[name])
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", role, err)
		}
		list = append(list, t)
	}
	return list, nil
}

// Target returns one target of a role.
func (s *Set) Target(role, name string) (t Target, found bool, err error) {
	doc, err := s.role(role)
	if err != nil {
		return Target{}, false, err
	}
	f, found := doc.Signed.Targets[name]
	if !found {
		return Target{}, false, nil
	}
	t, err = target(name, f)
	return t, true, err
}

func target(name string, f *metadata.TargetFiles) (Target, error) {
	sum := f.Hashes["sha256"]
	if len(f.Hashes) != 1 || len(sum) != sha256.Size {
		return Target{}, fmt.Errorf("target %.200q: want exactly one sha256", name)
	}
	return Target{Name: name, Digest: release.Digest(sum), Size: f.Length}, nil
}

// Withdrawn returns the withdrawals that a role has recorded, by target name.
func (s *Set) Withdrawn(role string) (map[string]Withdrawal, error) {
	doc, err := s.role(role)
	if err != nil {
		return nil, err
	}
	list := map[string]Withdrawal{}
	if err := rest(doc.Signed.UnrecognizedFields, signing.WithdrawnField, &list); err != nil {
		return nil, fmt.Errorf("role %s: %w", role, err)
	}
	return list, nil
}

// PutTarget makes a role vouch for content under name. The role has to be signed again.
func (s *Set) PutTarget(role, name string, content []byte) (Target, error) {
	doc, err := s.edit(role)
	if err != nil {
		return Target{}, err
	}
	t := Target{Name: name, Digest: release.DigestOf(content), Size: int64(len(content))}
	doc.Signed.Targets[name] = &metadata.TargetFiles{
		Length: t.Size,
		Hashes: metadata.Hashes{"sha256": metadata.HexBytes(t.Digest[:])},
		Path:   name,
	}
	return t, nil
}

// Withdraw makes a role no longer vouch for name, and records why. The role has to be
// signed again.
func (s *Set) Withdraw(role, name string, w Withdrawal) error {
	doc, err := s.edit(role)
	if err != nil {
		return err
	}
	if doc.Signed.Targets[name] == nil {
		return fmt.Errorf("withdraw %s: role %s has no such target", name, role)
	}
	list, err := s.Withdrawn(role)
	if err != nil {
		return err
	}
	delete(doc.Signed.Targets, name)
	w.Time = second(w.Time)
	list[name] = w
	return setRest(&doc.Signed.UnrecognizedFields, signing.WithdrawnField, list)
}

// DropTarget makes a role no longer vouch for name, without a record. The role has to be
// signed again.
func (s *Set) DropTarget(role, name string) error {
	doc, err := s.edit(role)
	if err == nil {
		delete(doc.Signed.Targets, name)
	}
	return err
}

// Renew marks a role for signing with nothing changed but version and expiry.
func (s *Set) Renew(role string) error {
	_, err := s.edit(role)
	return err
}

func (s *Set) role(role string) (*targetsDoc, error) {
	if role == RoleTargets {
		return s.targets, nil
	}
	if d := s.delegated[role]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("there is no role %s", role)
}

// edit returns a role's document for changing. The first change of a role in a Set gives
// it a new version, above every file that lies in the metadata directory: a file that an
// interrupted run left behind is never written over, because a host may have it.
func (s *Set) edit(role string) (*targetsDoc, error) {
	doc, err := s.role(role)
	if err != nil {
		return nil, err
	}
	if !s.changed[role] {
		doc.Signed.Version = s.next(role)
		s.changed[role] = true
	}
	doc.ClearSignatures()
	delete(s.signed, role)
	return doc, nil
}

func (s *Set) next(role string) int64 {
	s.highest[role]++
	return s.highest[role]
}

// Skip makes the next versions of all roles but root higher by n. After a repository
// came back from an old backup, hosts may know versions that it does not.
func (s *Set) Skip(n int64) {
	for role := range s.highest {
		if role != RoleRoot {
			s.highest[role] += n
		}
	}
}

// ThresholdError says that a role lacks signatures.
type ThresholdError struct {
	Role       string
	Have, Want int
	Missing    []RoleKey // keys whose signature would help
	Locked     []string  // names of keys that are here, but that the passphrase does not open
}

// Error names the role and the keys.
func (e *ThresholdError) Error() string {
	var names []string
	for _, k := range e.Missing {
		names = append(names, label(k))
	}
	text := fmt.Sprintf("sign %s: got %d signatures, want %d; keys that could sign: %s", e.Role, e.Have, e.Want, strings.Join(names, ", "))
	if len(e.Locked) > 0 {
		text += "; not opened by the passphrase: " + strings.Join(e.Locked, ", ")
	}
	return text
}

// Unwrap returns ErrPassphrase if keys are here that could not be opened.
func (e *ThresholdError) Unwrap() error {
	if len(e.Locked) > 0 {
		return ErrPassphrase
	}
	return nil
}

// label is how people are told of a key.
func label(k RoleKey) string {
	if k.Name == "" {
		return k.ID[:min(12, len(k.ID))]
	}
	return k.Name + " (" + k.ID[:min(12, len(k.ID))] + ")"
}

// CanSign reports, before any work is done, whether the keys that are present reach the
// role's threshold; it opens them. Otherwise the error is a *ThresholdError.
func (s *Set) CanSign(role string, ring *Ring) error {
	ids, threshold, _ := s.authority(role)
	opened := map[string]bool{}
	locked, err := signPresent(ring, ids, threshold, func(k *PrivateKey) error { opened[k.Public.ID] = true; return nil })
	if err != nil {
		return fmt.Errorf("sign %s: %w", role, err)
	}
	return s.threshold(role, ids, threshold, opened, locked)
}

func (s *Set) threshold(role string, ids []string, want int, have map[string]bool, locked []string) error {
	if len(have) >= want && want > 0 {
		return nil
	}
	e := &ThresholdError{Role: role, Have: len(have), Want: want, Locked: locked}
	names := s.keyNames()
	for _, id := range ids {
		if !have[id] {
			e.Missing = append(e.Missing, RoleKey{ID: id, Name: names[id]})
		}
	}
	return e
}

// Sign signs a changed role with its keys that are present, as many as it needs and all
// that are no effort to open, and sets its expiry. A role that lacks signatures then is a
// *ThresholdError.
func (s *Set) Sign(role string, expires time.Time, ring *Ring) error {
	doc, err := s.role(role)
	if err != nil {
		return err
	}
	if !s.changed[role] {
		return fmt.Errorf("sign %s: nothing has changed", role)
	}
	doc.Signed.Expires = second(expires)
	doc.ClearSignatures()
	ids, threshold, _ := s.authority(role)
	have := map[string]bool{}
	locked, err := signPresent(ring, ids, threshold, func(k *PrivateKey) error {
		have[k.Public.ID] = true
		return signWith(doc, k)
	})
	if err != nil {
		return fmt.Errorf("sign %s: %w", role, err)
	}
	if err := s.threshold(role, ids, threshold, have, locked); err != nil {
		return err
	}
	s.signed[role] = true
	return nil
}

// IsOnline reports whether a role is signed by the server's own keys.
func IsOnline(role string) bool {
	return role == RoleSnapshot || role == RoleTimestamp || strings.HasPrefix(role, "fleet-")
}

// hexDigest is for people.
func hexDigest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

// retiredField is the field of a role's signed part that tells, by machine, the highest
// version that was taken off the list because nobody needs it there.
const retiredField = "x-twinkeel-retired"

// Retired returns, by machine, the highest version that a role has retired.
func (s *Set) Retired(role string) (map[string]string, error) {
	doc, err := s.role(role)
	if err != nil {
		return nil, err
	}
	list := map[string]string{}
	if err := rest(doc.Signed.UnrecognizedFields, retiredField, &list); err != nil {
		return nil, fmt.Errorf("role %s: %w", role, err)
	}
	return list, nil
}

// SetRetired records that. The role has to be signed again.
func (s *Set) SetRetired(role string, versions map[string]string) error {
	doc, err := s.edit(role)
	if err != nil {
		return err
	}
	return setRest(&doc.Signed.UnrecognizedFields, retiredField, versions)
}
