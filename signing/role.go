package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// role is one verified targets role, reduced to what lookups need: a role with ten
// thousand targets takes about 2 MB.
type role struct {
	name    string
	digest  release.Digest // of the exact bytes
	signers string         // key set and threshold it was verified against
	version int64
	expires time.Time
	targets map[string]file
	// delegations is what it says about further roles; nil if nothing.
	delegations *metadata.Delegations
	// log is the policy on the release log; nil if there is none. Only the top-level
	// targets role has one.
	log *translog.Policy
	// withdrawn says why targets are no longer listed, by name.
	withdrawn map[string]Withdrawal
}

// file is one target as a role lists it.
type file struct {
	size   int64
	sha256 release.Digest
	// hashes is set, instead of sha256, if there are others as well (Interop only).
	hashes metadata.Hashes
}

// edgeName names who delegates to whom; parent nil is the root.
func edgeName(parent *role, name string) string {
	if parent == nil {
		return "root/" + name
	}
	return parent.name + "/" + name
}

// role returns the role that parent delegates to by that name; parent nil is the root.
// It is taken from this session, from memory, from disk or from src, in that order, and
// wherever it comes from it is checked against this parent's keys. Expiry is checked
// only before a newly fetched role is committed; a caller that acts on a role checks it
// again at that time.
func (s *session) role(ctx context.Context, src Source, parent *role, name string) (*role, error) {
	edge := edgeName(parent, name)
	if r := s.roles[edge]; r != nil {
		return r, nil
	}
	ring, err := s.keyring(parent, name)
	if err != nil {
		return nil, untrusted("%s: %w", name, err)
	}
	signers, keys, err := s.signers(parent, name, ring)
	if err != nil {
		return nil, untrusted("%s: %w", name, err)
	}
	if s.lenient {
		r, err := s.cached(parent, name, nil)
		if err != nil {
			return nil, err
		}
		s.roles[edge] = r
		return r, nil
	}
	m := s.core.Snapshot.Signed.Meta[name+".json"]
	if err := checkMetaFile(name+".json", m, s.c.cfg.Interop); err != nil {
		return nil, untrusted("snapshot: %w", err)
	}
	if err := s.checkVersionFloor(edge, name, keys, m.Version); err != nil {
		return nil, &Error{Untrusted, err}
	}
	r := s.c.memo[edge]
	if r == nil || r.signers != signers || !bytes.Equal(r.digest[:], m.Hashes["sha256"]) || r.version != m.Version {
		if r, err = s.cached(parent, name, m); err != nil {
			r, err = s.fetchRole(ctx, src, parent, name, keys, m)
		} else if src != nil {
			err = s.c.floors.raise(edge, keys, r.version, time.Time{})
		}
		if err != nil {
			return nil, err
		}
		r.signers = signers
	}
	s.roles[edge], s.c.memo[edge] = r, r
	return r, nil
}

// keyring returns who signs a targets role.
func (s *session) keyring(parent *role, name string) (keyring, error) {
	if parent == nil {
		return rootKeyring(&s.core.Root.Signed, name)
	}
	return delegatedKeyring(parent.delegations, name)
}

// signers names the keys and threshold of ring, and the key set that a floor is bound
// to. That includes the snapshot's keys: who holds those decides which version of a role
// is current, so replacing them must be able to undo an enormous version as well.
func (s *session) signers(parent *role, name string, ring keyring) (signers, keys string, err error) {
	var delegator []byte
	if parent != nil {
		delegator = parent.digest[:]
	}
	both, err := s.c.cfg.Verdicts.name(s.c.ask("signers", s.rootID[:], []byte(name), delegator), func() (string, error) {
		own, err := keySetID(ring)
		if err != nil {
			return "", err
		}
		snapshot, err := rootKeyring(&s.core.Root.Signed, metadata.SNAPSHOT)
		if err != nil {
			return "", err
		}
		keys, err := keySetID(ring, snapshot)
		return fmt.Sprintf("%d of %s/%s", ring.threshold, own, keys), err
	})
	signers, keys, _ = strings.Cut(both, "/")
	return signers, keys, err
}

// cached verifies the committed bytes of a role. m nil means that any version will do.
func (s *session) cached(parent *role, name string, m *metadata.MetaFiles) (*role, error) {
	data := s.c.cachedRole(name)
	if data == nil {
		return nil, &Error{Unavailable, fmt.Errorf("%s: is not cached", name)}
	}
	return s.verifyRole(parent, name, data, m)
}

// fetchRole fetches, verifies and commits a role.
func (s *session) fetchRole(ctx context.Context, src Source, parent *role, name, keys string, m *metadata.MetaFiles) (*role, error) {
	limit, err := fileLimit(m, maxTargetsSize)
	if err != nil {
		return nil, untrusted("%s: %w", name, err)
	}
	data, err := s.c.fetch(ctx, src, s.metadataPath(name, m.Version), limit)
	if err != nil {
		return nil, err
	}
	r, err := s.verifyRole(parent, name, data, m)
	if err != nil {
		return nil, err
	}
	if err := s.fresh(name, r.expires); err != nil {
		return nil, err
	}
	if err := s.commit(edgeName(parent, name), name, keys, r.version, time.Time{}, data); err != nil {
		return nil, err
	}
	return r, nil
}

// verifyRole checks data against the snapshot's entry m, if any, and the parent's keys.
func (s *session) verifyRole(parent *role, name string, data []byte, m *metadata.MetaFiles) (*role, error) {
	if m != nil {
		if err := s.c.listed(m, data); err != nil {
			return nil, untrusted("%s: %w", name, err)
		}
	}
	delegator := s.rootID
	if parent != nil {
		delegator = parent.digest
	}
	key := s.c.ask("role", delegator[:], []byte(name), data)
	v, known := s.c.cfg.Verdicts.get(key)
	if !known {
		v.role, v.err = s.judgeRole(parent, name, data)
		s.c.cfg.Verdicts.put(key, v)
	}
	if v.err != nil {
		return nil, untrusted("%s: %w", name, v.err)
	}
	r := *v.role
	if m != nil && r.version != m.Version {
		return nil, untrusted("%s: version: got %d, want %d", name, r.version, m.Version)
	}
	return &r, nil
}

// judgeRole is what verifyRole remembers: it depends on data and the parent alone.
func (s *session) judgeRole(parent *role, name string, data []byte) (*role, error) {
	if err := s.c.precheck(data, maxTargetsSize); err != nil {
		return nil, err
	}
	md := new(metadata.Metadata[metadata.TargetsType])
	err := guard(func() error {
		if _, err := md.FromBytes(data); err != nil {
			return err
		}
		if parent == nil {
			return s.core.Root.VerifyDelegate(name, md)
		}
		delegator := metadata.Metadata[metadata.TargetsType]{Signed: metadata.TargetsType{Delegations: parent.delegations}}
		return delegator.VerifyDelegate(name, md)
	})
	if err != nil {
		return nil, err
	}
	r, err := s.c.newRole(name, &md.Signed)
	if err != nil {
		return nil, err
	}
	r.digest = s.c.cfg.Verdicts.sum(data)
	return r, nil
}

// newRole checks the structure of a role that is known to be signed.
func (c *Client) newRole(name string, t *metadata.TargetsType) (*role, error) {
	if err := checkVersion(t.Version, c.cfg.Interop); err != nil {
		return nil, err
	}
	if err := checkDelegations(t.Delegations, c.cfg.Interop); err != nil {
		return nil, err
	}
	r := &role{name: name, version: t.Version, expires: t.Expires, delegations: t.Delegations,
		targets: make(map[string]file, len(t.Targets))}
	if name == metadata.TARGETS {
		var err error
		if r.log, err = logPolicy(t); err != nil {
			return nil, err
		}
	}
	r.withdrawn = withdrawals(t)
	for path, target := range t.Targets {
		f, err := c.newFile(path, target)
		if err != nil {
			return nil, err
		}
		r.targets[path] = f
	}
	return r, nil
}

func (c *Client) newFile(path string, t *metadata.TargetFiles) (file, error) {
	if t == nil || t.Length < 0 {
		return file{}, fmt.Errorf("target %.80q: is null or has a negative length", path)
	}
	if sum := t.Hashes["sha256"]; len(t.Hashes) == 1 && len(sum) == len(release.Digest{}) {
		if !c.cfg.Interop {
			if err := CheckTargetName(path); err != nil {
				return file{}, err
			}
		}
		return file{size: t.Length, sha256: release.Digest(sum)}, nil
	}
	if !c.cfg.Interop {
		return file{}, fmt.Errorf("target %.80q: is listed without exactly one SHA-256", path)
	}
	if len(t.Hashes) == 0 {
		return file{}, fmt.Errorf("target %.80q: is listed without a hash", path)
	}
	return file{size: t.Length, hashes: t.Hashes}, nil
}

// verify checks the content of a target.
func (f file) verify(v *Verdicts, data []byte) error {
	if f.hashes != nil {
		return guard(func() error {
			return (&metadata.TargetFiles{Length: f.size, Hashes: f.hashes}).VerifyLengthHashes(data)
		})
	}
	if int64(len(data)) != f.size {
		return fmt.Errorf("got %d bytes, want %d", len(data), f.size)
	}
	if v.sum(data) != f.sha256 {
		return errors.New("the SHA-256 differs from the listed one")
	}
	return nil
}

// id is the digest that consistent file names begin with.
func (f file) id() string {
	if f.hashes == nil {
		return f.sha256.String()
	}
	if h, ok := f.hashes["sha256"]; ok {
		return h.String()
	}
	return f.hashes["sha512"].String()
}
