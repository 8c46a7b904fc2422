package signing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/twinkeel/twinkeel/release"
)

// Edges of the top-level roles that floors are kept for.
const (
	timestampEdge = "root/timestamp"
	snapshotEdge  = "root/snapshot"
)

// session is metadata that verified, from the root in use down. It is made anew for
// each Refresh, so nothing that an earlier one believed is taken over unchecked.
type session struct {
	c    *Client
	core *trustedmetadata.TrustedMetadata
	// root is the exact bytes of the root in use; stored says that root.json holds them.
	root   []byte
	stored bool
	// rootID names root, and topSets the key sets of top-level roles under it.
	rootID  release.Digest
	topSets map[string]string
	// past names everything that core was asked to take so far.
	past release.Digest
	// roles holds the targets roles used so far, by edge.
	roles map[string]*role
	// lenient serves Cached: signatures are checked, freshness and floors are not.
	lenient bool
}

// newSession starts from the newest usable root at hand: the committed one or, if that
// is absent, damaged or older, the factory's.
func (c *Client) newSession() (*session, error) {
	stored, err := c.startFrom(c.cachedRole(metadata.ROOT))
	if stored != nil && stored.core.Root.Signed.Version >= c.factoryVersion {
		stored.stored = true
		return stored, nil
	}
	if c.cfg.Factory != nil {
		var s *session
		if s, err = c.startFrom(c.cfg.Factory); err == nil {
			return s, nil
		}
	}
	return nil, untrusted("root: none is usable: %w", err)
}

// readFactory notes the version of the factory root, so that it is parsed again only
// when it is needed. One that is not usable counts as older than any other.
func (c *Client) readFactory() {
	if s, err := c.startFrom(c.cfg.Factory); err == nil {
		c.factoryVersion = s.core.Root.Signed.Version
	}
}

// startFrom makes a session of one root, which must be signed by its own keys.
func (c *Client) startFrom(data []byte) (*session, error) {
	if data == nil {
		return nil, errors.New("no factory root is given, and none is committed")
	}
	s := &session{c: c, root: data, roles: map[string]*role{}}
	err := s.apply("first root", data, c.maxSize(metadata.ROOT), func() (err error) {
		core, err := trustedmetadata.New(data)
		if err != nil {
			return err
		}
		// Expiry is ours to judge, at the time of use and by the time floor: for the
		// core, nothing ever expires.
		core.RefTime = time.Time{}
		s.core = core
		return checkRoot(&core.Root.Signed, c.cfg.Interop)
	})
	if err != nil {
		return nil, err
	}
	s.rooted()
	return s, nil
}

// rooted notes that the root in use is another one. What the core was asked to take up to
// here names its bytes.
func (s *session) rooted() { s.rootID, s.topSets = s.past, map[string]string{} }

// committed returns the session of what is on disk. It asks nobody and writes nothing.
func (c *Client) committed() (*session, error) {
	if err := c.usable(); err != nil {
		c.publish(nil)
		return nil, err
	}
	if c.session != nil {
		return c.session, nil
	}
	s, err := c.newSession()
	if err != nil {
		c.publish(nil)
		return nil, err
	}
	if err := c.complete(s); err != nil {
		return nil, err
	}
	return s, nil
}

// complete loads what is on disk below the root that s holds, and makes s the session of
// what is committed.
func (c *Client) complete(s *session) error {
	err := s.load()
	if c.publish(s); err == nil {
		c.session = s
	}
	return err
}

// recall returns a session for Cached.
func (c *Client) recall() (*session, error) {
	s, err := c.newSession()
	if err != nil {
		return nil, err
	}
	s.lenient = true
	return s, nil
}

// load completes a session from disk.
func (s *session) load() error {
	if err := s.checkRootFloor(); err != nil {
		return err
	}
	s.loadTimestamp()
	if s.core.Timestamp == nil {
		return &Error{Unavailable, errors.New("timestamp: none is committed; a refresh is needed")}
	}
	if err := s.checkFloor(timestampEdge, metadata.TIMESTAMP, s.core.Timestamp.Signed.Version); err != nil {
		return stale(err)
	}
	if !s.loadSnapshot() {
		return &Error{Unavailable, errors.New("snapshot: none is committed that fits the timestamp; a refresh is needed")}
	}
	if err := s.checkFloor(snapshotEdge, metadata.SNAPSHOT, s.core.Snapshot.Signed.Version); err != nil {
		return stale(err)
	}
	_, err := s.role(context.Background(), nil, nil, metadata.TARGETS)
	return err
}

// stale says that what is committed is older than its floor, as a power cut between the
// two writes leaves it: no attack, but of no use before the next Refresh.
func stale(err error) error {
	return &Error{Unavailable, fmt.Errorf("%w; a refresh is needed", err)}
}

// loadTimestamp takes the committed timestamp if it verifies under the root in use.
func (s *session) loadTimestamp() {
	data := s.c.cachedRole(metadata.TIMESTAMP)
	if data == nil {
		return
	}
	err := s.apply("timestamp", data, s.c.maxSize(metadata.TIMESTAMP), func() error {
		_, err := s.core.UpdateTimestamp(data)
		return err
	})
	if err != nil || s.checkTimestamp() != nil {
		s.core.Timestamp = nil
		s.dropped("timestamp")
	}
}

// loadSnapshot takes the committed snapshot if it verifies under the root in use, and
// reports whether it is the one that the timestamp names. Even if not, it stands as the
// base that a newer snapshot must not fall behind.
func (s *session) loadSnapshot() bool {
	data := s.c.cachedRole(metadata.SNAPSHOT)
	if data == nil {
		return false
	}
	err := s.apply("snapshot of before", data, s.c.maxSize(metadata.SNAPSHOT), func() error {
		_, err := s.core.UpdateSnapshot(data, true)
		return err
	})
	if s.core.Snapshot == nil {
		return false
	}
	if checkSnapshot(&s.core.Snapshot.Signed, s.c.cfg.Interop) != nil {
		s.core.Snapshot = nil
		s.dropped("snapshot")
		return false
	}
	m := s.core.Timestamp.Signed.Meta["snapshot.json"]
	return err == nil && m != nil && s.c.listed(m, data) == nil
}

// checkTimestamp checks the structure of the timestamp in use.
func (s *session) checkTimestamp() error {
	t := &s.core.Timestamp.Signed
	if err := checkVersion(t.Version, s.c.cfg.Interop); err != nil {
		return err
	}
	return checkMetaFile("snapshot.json", t.Meta["snapshot.json"], s.c.cfg.Interop)
}

// checkRootFloor refuses a root older than one that this host has seen.
func (s *session) checkRootFloor() error {
	got, floor := s.core.Root.Signed.Version, s.c.floors.state.Root
	if got < floor {
		return &Error{RootWithheld, fmt.Errorf("root: the chain ends at version %d, this host has seen %d", got, floor)}
	}
	return nil
}

// checkFloor refuses a version older than one seen under the same keys.
func (s *session) checkFloor(edge, role string, version int64) error {
	keys, err := s.topKeys(role)
	if err != nil {
		return err
	}
	return s.checkVersionFloor(edge, role, keys, version)
}

func (s *session) checkVersionFloor(edge, role, keys string, version int64) error {
	if floor := s.c.floors.version(edge, keys); version < floor {
		return fmt.Errorf("%s: version: got %d, this host has seen %d", role, version, floor)
	}
	return nil
}

// topKeys names the key set of a top-level role.
func (s *session) topKeys(role string) (string, error) {
	if keys, known := s.topSets[role]; known {
		return keys, nil
	}
	keys, err := s.c.cfg.Verdicts.name(s.c.ask("top keys", s.rootID[:], []byte(role)), func() (string, error) {
		ring, err := rootKeyring(&s.core.Root.Signed, role)
		if err != nil {
			return "", err
		}
		return keySetID(ring)
	})
	if err == nil {
		s.topSets[role] = keys
	}
	return keys, err
}

// timeFloor is the latest time that is proven to have passed: that of the image's
// build, or what a timestamp said whose keys still hold.
func (s *session) timeFloor() time.Time {
	floor := s.c.cfg.MinTime
	if keys, err := s.topKeys(metadata.TIMESTAMP); err == nil {
		if t := s.c.floors.signedAt(timestampEdge, keys); t.After(floor) {
			floor = t
		}
	}
	return floor
}

// now is the clock, but never before the time floor.
func (s *session) now() time.Time {
	now := s.c.cfg.Now()
	if floor := s.timeFloor(); now.Before(floor) {
		return floor
	}
	return now
}

// fresh refuses a role that has expired.
func (s *session) fresh(role string, expires time.Time) error {
	if now := s.now(); !s.lenient && now.After(expires) {
		return &Error{Expired, fmt.Errorf("%s: expired on %s, it is %s", role,
			expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))}
	}
	return nil
}

// precheck is what every metadata file passes before go-tuf sees it.
func (c *Client) precheck(data []byte, limit int64) error {
	if int64(len(data)) > limit {
		return fmt.Errorf("got %d bytes, want at most %d", len(data), limit)
	}
	return scan(data, !c.cfg.Interop)
}

// guard turns a panic of the metadata parser into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed metadata: %v", r)
		}
	}()
	return f()
}

// listed refuses data that is not the file that m lists.
func (c *Client) listed(m *metadata.MetaFiles, data []byte) error {
	if want := m.Hashes["sha256"]; len(m.Hashes) == 1 && len(want) == len(release.Digest{}) && m.Length == int64(len(data)) {
		if c.cfg.Verdicts.sum(data) == release.Digest(want) {
			return nil
		}
	}
	return m.VerifyLengthHashes(data)
}
