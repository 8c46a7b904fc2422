package signing

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
)

// Limits on metadata. The larger ones leave room for ten thousand releases.
const (
	maxRootSize      = 64 << 10  // bytes
	maxTimestampSize = 16 << 10  // bytes
	maxSnapshotSize  = 256 << 10 // bytes: about 1,800 roles
	maxTargetsSize   = 4 << 20   // bytes; durable.MaxFile, as each role is one file
	maxRootSteps     = 256       // roots walked in one Refresh
	maxDelegations   = 32        // roles visited in one walk
	maxKeys          = 256       // in one list of keys
	maxVersion       = 1<<31 - 1
	maxTargetName    = 512 // bytes
	maxRoleName      = 80  // bytes
)

// MetadataLimit is the size in bytes of the largest file of a role that a host takes.
// Who publishes must not exceed it.
func MetadataLimit(role string) int64 {
	switch role {
	case metadata.ROOT:
		return maxRootSize
	case metadata.TIMESTAMP:
		return maxTimestampSize
	case metadata.SNAPSHOT:
		return maxSnapshotSize
	}
	return maxTargetsSize
}

// maxSize is the limit on a file of a role: that of MetadataLimit for a host; foreign
// repositories have long keys, and more of them.
func (c *Client) maxSize(role string) int64 {
	if c.cfg.Interop {
		return maxTargetsSize
	}
	return MetadataLimit(role)
}

// CheckRoleName refuses what is not the name of a delegated role: at most 80 characters
// of release.CheckName's alphabet, so that it is the same in a URL, in a file name and
// in a log, and none of the top-level names.
func CheckRoleName(name string) error {
	if isTopLevel(name) {
		return fmt.Errorf("role name %q: is a top-level role", name)
	}
	if len(name) > maxRoleName {
		return fmt.Errorf("role name %.80q: got %d characters, want at most %d", name, len(name), maxRoleName)
	}
	// A role is a prefix such as "os-" and then a name that may have CheckName's length.
	prefix, rest, ok := strings.Cut(name, "-")
	if !ok {
		return release.CheckName("role name", name)
	}
	if err := release.CheckName("role name", prefix); err != nil {
		return err
	}
	return release.CheckName("role name", rest)
}

// isTopLevel reports whether a name is one of the four that have files of their own.
func isTopLevel(name string) bool {
	return name == metadata.ROOT || name == metadata.TARGETS || name == metadata.SNAPSHOT || name == metadata.TIMESTAMP
}

// CheckTargetName refuses what is not a target's path: elements of release.CheckName's
// alphabet with single slashes between them. So no element is empty, ".", or "..".
func CheckTargetName(name string) error {
	if len(name) > maxTargetName {
		return fmt.Errorf("target name %.80q: got %d bytes, want at most %d", name, len(name), maxTargetName)
	}
	for _, e := range strings.Split(name, "/") {
		if err := release.CheckName("target name: element", e); err != nil {
			return err
		}
	}
	return nil
}

// checkInteropName is what even a client without twinkeel's profile refuses in a
// target's path: it becomes part of a path elsewhere.
func checkInteropName(name string) error {
	if name == "" || len(name) > maxTargetName || name[0] == '/' || strings.Contains(name, `\`) {
		return fmt.Errorf("target name %.80q: empty, too long, absolute or with a backslash", name)
	}
	for i := 0; i < len(name); i++ {
		if name[i] < 0x20 || name[i] == 0x7f {
			return fmt.Errorf("target name %.80q: character %d is a control character", name, i)
		}
	}
	for _, e := range strings.Split(name, "/") {
		if e == "" || e == "." || e == ".." {
			return fmt.Errorf("target name %.80q: element %q", name, e)
		}
	}
	return nil
}

// keyring is who must sign a role, as its delegator says.
type keyring struct {
	keys      map[string]*metadata.Key
	ids       []string
	threshold int
}

// check verifies twinkeel's profile: known keys of the allowed kinds, and a threshold
// that this many different keys can reach. Key ids are names; what counts is material.
func (k keyring) check(role string) error {
	if k.threshold < 1 {
		return fmt.Errorf("role %q: threshold: got %d, want at least 1", role, k.threshold)
	}
	prints, err := k.prints()
	if err != nil {
		return fmt.Errorf("role %q: %w", role, err)
	}
	if len(prints) < k.threshold {
		return fmt.Errorf("role %q: threshold: got %d, want at most the %d different keys", role, k.threshold, len(prints))
	}
	return nil
}

// prints returns the sorted SHA-256 fingerprints of the different keys.
func (k keyring) prints() ([]string, error) {
	var prints []string
	for _, id := range k.ids {
		key := k.keys[id]
		if key == nil {
			return nil, fmt.Errorf("key %.80q: is not listed", id)
		}
		public, err := key.ToPublicKey()
		if err != nil {
			return nil, fmt.Errorf("key %.80q: %w", id, err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("key %.80q: %w", id, err)
		}
		sum := sha256.Sum256(der)
		prints = append(prints, hex.EncodeToString(sum[:]))
	}
	slices.Sort(prints)
	return slices.Compact(prints), nil
}

// keySetID names the set of different keys in rings, whatever their order and thresholds.
func keySetID(rings ...keyring) (string, error) {
	h := sha256.New()
	for _, k := range rings {
		prints, err := k.prints()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\n", strings.Join(prints, " "))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checkKeys allows ed25519 and ECDSA over P-256 with SHA-256.
func checkKeys(keys map[string]*metadata.Key) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("keys: got %d, want at most %d", len(keys), maxKeys)
	}
	for id, key := range keys {
		if key == nil {
			return fmt.Errorf("key %.80q: is null", id)
		}
		if key.Type == metadata.KeyTypeEd25519 && len(key.Value.PublicKey) != 2*ed25519.PublicKeySize {
			return fmt.Errorf("key %.80q: got %d characters, want %d", id, len(key.Value.PublicKey), 2*ed25519.PublicKeySize)
		}
		public, err := key.ToPublicKey()
		if err != nil {
			return fmt.Errorf("key %.80q: %w", id, err)
		}
		switch p := public.(type) {
		case ed25519.PublicKey:
			if key.Scheme == metadata.KeySchemeEd25519 {
				continue
			}
		case *ecdsa.PublicKey:
			if p.Curve == elliptic.P256() && key.Scheme == metadata.KeySchemeECDSA_SHA2_P256 {
				continue
			}
		}
		return fmt.Errorf("key %.80q: type %.40q with scheme %.40q is not allowed", id, key.Type, key.Scheme)
	}
	return nil
}

// rootKeyring returns who signs a top-level role.
func rootKeyring(root *metadata.RootType, role string) (keyring, error) {
	r := root.Roles[role]
	if r == nil {
		return keyring{}, fmt.Errorf("root: role %q is missing", role)
	}
	return keyring{root.Keys, r.KeyIDs, r.Threshold}, nil
}

// delegatedKeyring returns who signs a delegated role.
func delegatedKeyring(d *metadata.Delegations, role string) (keyring, error) {
	if d == nil {
		return keyring{}, errors.New("no delegations")
	}
	for _, r := range d.Roles {
		if r.Name == role {
			return keyring{d.Keys, r.KeyIDs, r.Threshold}, nil
		}
	}
	if s := d.SuccinctRoles; d.Roles == nil && s != nil && s.IsDelegatedRole(role) {
		return keyring{d.Keys, s.KeyIDs, s.Threshold}, nil
	}
	return keyring{}, fmt.Errorf("no delegation of %q", role)
}

// checkMetaFile checks how one metadata file lists another.
func checkMetaFile(name string, m *metadata.MetaFiles, interop bool) error {
	if m == nil {
		return fmt.Errorf("%.80q: is not listed", name)
	}
	if err := checkVersion(m.Version, interop); err != nil {
		return fmt.Errorf("%.80q: %w", name, err)
	}
	if interop {
		return nil
	}
	if m.Length < 1 || len(m.Hashes) != 1 || len(m.Hashes["sha256"]) != sha256.Size {
		return fmt.Errorf("%.80q: is listed without length and exactly one SHA-256", name)
	}
	return nil
}

func checkVersion(v int64, interop bool) error {
	if v < 1 || v > maxVersion && !interop {
		return fmt.Errorf("version: got %d, want 1 to %d", v, maxVersion)
	}
	return nil
}

// checkRoot checks the structure of a root that is already known to be signed.
func checkRoot(root *metadata.RootType, interop bool) error {
	if err := checkVersion(root.Version, interop); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if !interop {
		if err := checkKeys(root.Keys); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		ring, err := rootKeyring(root, role)
		if err != nil {
			return err
		}
		if interop {
			continue
		}
		if err := ring.check(role); err != nil {
			return fmt.Errorf("root: %w", err)
		}
	}
	if !root.ConsistentSnapshot && !interop {
		return errors.New("root: consistent_snapshot is not set")
	}
	return nil
}

// checkSnapshot checks the structure of a snapshot.
func checkSnapshot(s *metadata.SnapshotType, interop bool) error {
	if err := checkVersion(s.Version, interop); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	for name, m := range s.Meta {
		if err := checkMetaFile(name, m, interop); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	return nil
}

// checkDelegations checks what a targets role says about others.
func checkDelegations(d *metadata.Delegations, interop bool) error {
	if d == nil {
		return nil
	}
	if !interop {
		if err := checkKeys(d.Keys); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		if seen[r.Name] {
			return fmt.Errorf("role %.80q: is delegated to twice", r.Name)
		}
		seen[r.Name] = true
		if isTopLevel(r.Name) {
			return fmt.Errorf("role name %q: is a top-level role", r.Name)
		}
		if interop {
			continue
		}
		if err := CheckRoleName(r.Name); err != nil {
			return err
		}
		if err := (keyring{d.Keys, r.KeyIDs, r.Threshold}).check(r.Name); err != nil {
			return err
		}
	}
	if s := d.SuccinctRoles; s != nil && !interop {
		if err := CheckRoleName(s.NamePrefix + "-0"); err != nil {
			return err
		}
		return keyring{d.Keys, s.KeyIDs, s.Threshold}.check(s.NamePrefix)
	}
	return nil
}
