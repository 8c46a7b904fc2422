package signing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// SignedAtField is the member of a timestamp's signed part that says when it was signed,
// as RFC 3339 in UTC. It is what raises a host's time floor.
const SignedAtField = "signedAt"

// plausibleAhead is how far ahead of a clock that looks right a signing time may be to
// be taken as proof of time.
const plausibleAhead = 24 * time.Hour

// refresh is the TUF client workflow. Requests are made in its order, and for nothing
// that the committed files answer: N+1.root.json until one is absent, timestamp.json,
// V.snapshot.json, V.targets.json.
func (c *Client) refresh(ctx context.Context, src Source) (*session, error) {
	s, err := c.newSession()
	if err != nil {
		return nil, err
	}
	if err := s.walkRoots(ctx, src); err != nil {
		return nil, err
	}
	if err := s.fresh(metadata.ROOT, s.core.Root.Signed.Expires); err != nil {
		return nil, err
	}
	if err := s.refreshTimestamp(ctx, src); err != nil {
		return nil, err
	}
	if err := s.refreshSnapshot(ctx, src); err != nil {
		return nil, err
	}
	targets, err := s.role(ctx, src, nil, metadata.TARGETS)
	if err != nil {
		return nil, err
	}
	return s, s.fresh(metadata.TARGETS, targets.expires)
}

// walkRoots follows the chain of roots to its end and commits each step.
func (s *session) walkRoots(ctx context.Context, src Source) error {
	if err := s.commitStart(); err != nil {
		return err
	}
	for step := 0; ; step++ {
		next := s.core.Root.Signed.Version + 1
		path := fmt.Sprintf("metadata/%d.root.json", next)
		data, err := s.c.tryFetch(ctx, src, path, s.c.maxSize(metadata.ROOT))
		// Some object stores refuse to say that a file is not there. That is no excuse
		// for any other file, but the chain has to end somewhere.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return s.checkRootFloor()
		}
		if err != nil {
			if Code(err) != "" {
				return err
			}
			return &Error{Unavailable, fmt.Errorf("fetch %s: %w", path, err)}
		}
		if step == maxRootSteps {
			return untrusted("root: more than %d new versions at once; the next refresh goes on from version %d", maxRootSteps, next-1)
		}
		if err := s.nextRoot(data); err != nil {
			return untrusted("root %d: %w", next, err)
		}
		if err := s.commitRoot(); err != nil {
			return err
		}
	}
}

// nextRoot makes data the root in use if the one before it and data itself sign it.
func (s *session) nextRoot(data []byte) error {
	err := s.apply("next root", data, s.c.maxSize(metadata.ROOT), func() error {
		_, err := s.core.UpdateRoot(data)
		return err
	})
	if err != nil {
		return err
	}
	s.root = data
	s.rooted()
	return checkRoot(&s.core.Root.Signed, s.c.cfg.Interop)
}

// refreshTimestamp fetches the timestamp and commits it if it is newer.
func (s *session) refreshTimestamp(ctx context.Context, src Source) error {
	s.loadTimestamp()
	data, err := s.c.fetch(ctx, src, "metadata/timestamp.json", s.c.maxSize(metadata.TIMESTAMP))
	if err != nil {
		return err
	}
	newer, err := s.takeTimestamp(data)
	if err != nil {
		return untrusted("timestamp: %w", err)
	}
	t := &s.core.Timestamp.Signed
	if err := s.checkFloor(timestampEdge, metadata.TIMESTAMP, t.Version); err != nil {
		return &Error{Untrusted, err}
	}
	if err := s.fresh(metadata.TIMESTAMP, t.Expires); err != nil {
		return err
	}
	keys, err := s.topKeys(metadata.TIMESTAMP)
	if err != nil {
		return untrusted("timestamp: %w", err)
	}
	if !newer {
		return s.c.floors.raise(timestampEdge, keys, t.Version, time.Time{})
	}
	return s.commit(timestampEdge, metadata.TIMESTAMP, keys, t.Version, s.provenTime(), data)
}

// takeTimestamp makes data the timestamp in use, unless the one in use has the same
// version.
func (s *session) takeTimestamp(data []byte) (newer bool, err error) {
	err = s.apply("timestamp", data, s.c.maxSize(metadata.TIMESTAMP), func() error {
		_, err := s.core.UpdateTimestamp(data)
		return err
	})
	if err != nil && !errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return false, err
	}
	return err == nil, s.checkTimestamp()
}

// provenTime returns when the timestamp in use says that it was signed, or zero if that
// must not raise the time floor. Only signed data ever raises it, never the clock: a
// clock that is ten years ahead for a day must not leave a mark.
//
// Signed data may be wrong too, by a stolen key or a signer's bad clock. So a time after
// the expiry of the timestamp or the root is no proof, nor is one far ahead of a clock
// that looks right; a clock behind the floor is known to be wrong and has no say. The
// floor is bound to the timestamp's keys: new ones, from the root, clear it.
func (s *session) provenTime() time.Time {
	t := &s.core.Timestamp.Signed
	text, _ := t.UnrecognizedFields[SignedAtField].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.After(t.Expires) || at.After(s.core.Root.Signed.Expires) {
		return time.Time{}
	}
	clock := s.c.cfg.Now()
	if !clock.Before(s.timeFloor()) && at.After(clock.Add(plausibleAhead)) {
		return time.Time{}
	}
	return at
}

// refreshSnapshot makes sure of the snapshot that the timestamp names.
func (s *session) refreshSnapshot(ctx context.Context, src Source) error {
	keys, err := s.topKeys(metadata.SNAPSHOT)
	if err != nil {
		return untrusted("snapshot: %w", err)
	}
	if s.loadSnapshot() {
		if err := s.acceptSnapshot(); err != nil {
			return err
		}
		return s.c.floors.raise(snapshotEdge, keys, s.core.Snapshot.Signed.Version, time.Time{})
	}
	m := s.core.Timestamp.Signed.Meta["snapshot.json"]
	limit, err := fileLimit(m, s.c.maxSize(metadata.SNAPSHOT))
	if err != nil {
		return untrusted("snapshot: %w", err)
	}
	data, err := s.c.fetch(ctx, src, s.metadataPath(metadata.SNAPSHOT, m.Version), limit)
	if err != nil {
		return err
	}
	if err := s.takeSnapshot(data, m); err != nil {
		return untrusted("snapshot: %w", err)
	}
	if err := s.acceptSnapshot(); err != nil {
		return err
	}
	return s.commit(snapshotEdge, metadata.SNAPSHOT, keys, s.core.Snapshot.Signed.Version, time.Time{}, data)
}

// takeSnapshot makes data, which must be what m lists, the snapshot in use.
func (s *session) takeSnapshot(data []byte, m *metadata.MetaFiles) error {
	// Length and digest come first: nothing else of a foreign file is looked at.
	if err := s.c.listed(m, data); err != nil {
		return err
	}
	err := s.apply("snapshot", data, s.c.maxSize(metadata.SNAPSHOT), func() error {
		_, err := s.core.UpdateSnapshot(data, false)
		return err
	})
	if err != nil {
		return err
	}
	return checkSnapshot(&s.core.Snapshot.Signed, s.c.cfg.Interop)
}

// acceptSnapshot checks floor and expiry of the snapshot in use.
func (s *session) acceptSnapshot() error {
	n := &s.core.Snapshot.Signed
	if err := s.checkFloor(snapshotEdge, metadata.SNAPSHOT, n.Version); err != nil {
		return &Error{Untrusted, err}
	}
	return s.fresh(metadata.SNAPSHOT, n.Expires)
}

// fileLimit is how many bytes to ask for: the listed length, or most if there is none.
func fileLimit(m *metadata.MetaFiles, most int64) (int64, error) {
	if m.Length < 0 || m.Length > most {
		return 0, fmt.Errorf("is listed with %d bytes, want at most %d", m.Length, most)
	}
	if m.Length > 0 {
		return m.Length, nil
	}
	return most, nil
}
