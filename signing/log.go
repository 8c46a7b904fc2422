package signing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// maxProven is how many releases a host remembers to have found in the log. It meets a
// handful; one that was forgotten is looked up again.
const maxProven = 32

// logFloor is what a host remembers of the release log.
type logFloor struct {
	// Checkpoint is the newest one, as it was signed: if the log is ever shown otherwise,
	// the two signatures are the evidence.
	Checkpoint string           `json:"checkpoint"`
	Proven     []release.Digest `json:"proven,omitempty"` // leaves found in that log, newest last
}

// seen returns what is remembered of a log; nothing if it is another one that the
// policy names now.
func (l *logFloor) seen(origin string) (translog.Checkpoint, []release.Digest) {
	if l == nil {
		return translog.Empty(origin), nil
	}
	c, err := translog.Remembered(l.Checkpoint)
	if err != nil || c.Origin != origin {
		return translog.Empty(origin), nil
	}
	return c, l.Proven
}

// raiseLog makes sure that a checkpoint, and a leaf that was found in it, are remembered
// durably before the caller relies on them.
func (f *floors) raiseLog(checkpoint string, proven []release.Digest, leaf release.Digest) error {
	proven = append(slices.Clone(proven), leaf)
	s := f.state
	s.Log = &logFloor{Checkpoint: checkpoint, Proven: proven[max(0, len(proven)-maxProven):]}
	return f.write(s)
}

// logPolicy reads the policy out of the top-level targets role.
func logPolicy(t *metadata.TargetsType) (*translog.Policy, error) {
	value, ok := t.UnrecognizedFields[translog.PolicyField]
	if !ok {
		return nil, nil
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", translog.PolicyField, err)
	}
	p, err := translog.ParsePolicy(b)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// checkLogged looks a release up in the log, if the top-level targets role asks for it.
// With policy warn a release that is not there is reported and let through.
func (c *Client) checkLogged(ctx context.Context, src Source, s *session, name string, f file) error {
	entry, ok := translog.EntryOf(name, f.sha256)
	if !ok || f.hashes != nil {
		return nil
	}
	top, err := s.role(ctx, src, nil, metadata.TARGETS)
	if err != nil {
		return err
	}
	if top.log == nil || top.log.Mode == translog.Off {
		return nil
	}
	err = c.prove(ctx, src, *top.log, entry)
	if err != nil && top.log.Mode == translog.Warn {
		c.logWarning = err.Error()
		return nil
	}
	if err == nil {
		c.logWarning = ""
	}
	return err
}

// prove finds an entry in the log that the policy names, or remembers to have done so.
func (c *Client) prove(ctx context.Context, src Source, p translog.Policy, entry translog.Entry) error {
	seen, proven := c.floors.state.Log.seen(p.Origin)
	leaf := entry.Leaf()
	if slices.Contains(proven, leaf) {
		return nil
	}
	var shown []byte
	checkpoint, err := c.inspect(ctx, logSource{c, src, &shown}, p, seen, leaf)
	if err == nil {
		return c.floors.raiseLog(checkpoint, proven, leaf)
	}
	if logSourceFailed(err) {
		return &Error{Unavailable, fmt.Errorf("release log: %w", err)}
	}
	// The cause is not wrapped: a file of the log that is missing must not read as a
	// release that is not listed.
	err = untrusted("release log: release %s: %v", entry, err)
	return errors.Join(err, c.keepEvidence(evidence{Time: c.cfg.Now().UTC().Truncate(time.Second),
		Release: entry.String(), Text: truncate(err.Error(), 500), Shown: string(shown), Seen: c.floors.state.Log.text()}))
}

func (l *logFloor) text() string {
	if l == nil {
		return ""
	}
	return l.Checkpoint
}

// inspect checks a leaf against what the source shows as the log.
func (c *Client) inspect(ctx context.Context, src logSource, p translog.Policy, seen translog.Checkpoint, leaf release.Digest) (string, error) {
	signed, err := src.Fetch(ctx, translog.CheckpointPath, translog.MaxCheckpoint)
	if err != nil {
		return "", err
	}
	*src.shown = signed
	now, err := translog.OpenCheckpoint(signed, p)
	if err != nil {
		return "", err
	}
	view := translog.At(ctx, src, now)
	if err := view.Extends(seen); err != nil {
		return "", err
	}
	_, err = view.Find(leaf)
	return string(signed), err
}

// logSource is a Source with the client's deadlines, for the log's files.
type logSource struct {
	c     *Client
	src   Source
	shown *[]byte
}

// missing says, in fewer words than a source's, that a file is not there.
type missing struct{ path string }

func (e missing) Error() string        { return e.path + " is not there" }
func (e missing) Is(target error) bool { return target == fs.ErrNotExist }

// sourceError marks what went wrong at the source, not in what it delivered.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

func logSourceFailed(err error) bool {
	var s sourceError
	return errors.As(err, &s)
}

func (s logSource) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := s.c.tryFetch(ctx, s.src, path, limit)
	switch {
	case err == nil || Code(err) != "":
		return b, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing{path}
	}
	return nil, sourceError{fmt.Errorf("fetch %s: %w", path, err)}
}

// LogPolicy returns what the committed metadata says about the release log; ok is false
// if there is none.
func (c *Client) LogPolicy(ctx context.Context, src Source) (p translog.Policy, ok bool, err error) {
	s, err := c.committed()
	if err != nil {
		return p, false, err
	}
	top, err := s.role(ctx, src, nil, metadata.TARGETS)
	if err != nil || top.log == nil {
		return p, false, err
	}
	return *top.log, true, nil
}

// Roles returns the names of the roles that the top-level targets role delegates to, in
// its order; none if the metadata is not complete.
func (c *Client) Roles(ctx context.Context, src Source) []string {
	s, err := c.committed()
	if err != nil {
		return nil
	}
	top, err := s.role(ctx, src, nil, metadata.TARGETS)
	if err != nil || top.delegations == nil {
		return nil
	}
	var names []string
	for _, d := range top.delegations.Roles {
		names = append(names, d.Name)
	}
	return names
}
