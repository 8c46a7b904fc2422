package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// logKeyName is what the key of a new site's release log is called.
const logKeyName = "log"

// logOrigin names a log after its first key, so that no two logs have one name.
func logOrigin(key publisher.PublicKey) string { return "twinkeel/" + key.ID[:16] }

// logFiles returns what has to be written before a publication becomes visible, so that
// every release in it stands in the release log by then:
//
//  1. tiles, entries and index. Nobody reads them yet: the checkpoint does not cover them,
//     and a later run may give them other contents.
//  2. the checkpoint. A stop behind it leaves a log with a release that is not offered;
//     the run that offers it finds it there and adds nothing.
func (s *Site) logFiles(ctx context.Context, set *publisher.Set, ring *publisher.Ring, contents []publisher.File) ([]publisher.File, error) {
	policy, ok, err := set.Log()
	if err != nil || !ok {
		return nil, err
	}
	before, had := policy, true
	if slices.Contains(set.Changed(), publisher.RoleTargets) {
		if before, had, err = s.publishedLog(); err != nil {
			return nil, err
		}
	}
	old, signed, err := s.checkpoint(before, had, policy.Origin)
	if err != nil {
		return nil, err
	}
	entries, err := newEntries(set, contents, !had)
	if err != nil {
		return nil, err
	}
	view := translog.At(ctx, overlay{site: s}, old)
	entries = slices.DeleteFunc(entries, func(e translog.Entry) bool { _, err := view.Find(e.Leaf()); return err == nil })
	files, next, err := view.Append(entries)
	if err != nil {
		return nil, err
	}
	next.Origin = policy.Origin
	if _, err := translog.OpenCheckpoint(signed, policy); err == nil && len(entries) == 0 {
		return nil, nil
	}
	// The keys of both policies sign, so that a stop before the new one is published, or a
	// host that has not seen it yet, makes no difference.
	keys := policy.Keys
	if same, err := before.Renamed(policy.Origin); err == nil {
		keys = slices.Concat(keys, same.Keys)
	}
	sealed, err := sealCheckpoint(ring, next, keys)
	if err != nil {
		return nil, err
	}
	// Whoever reads the new targets must find a checkpoint that they accept.
	if _, err := translog.OpenCheckpoint(sealed, policy); err != nil {
		return nil, fmt.Errorf("the release log's key is not here: %w", err)
	}
	var list []publisher.File
	for _, f := range files {
		list = append(list, publisher.File{Path: f.Path, Data: f.Data})
	}
	return append(list, publisher.File{Path: translog.CheckpointPath, Data: sealed}), nil
}

// publishedLog returns the policy that hosts read now.
func (s *Site) publishedLog() (translog.Policy, bool, error) {
	base, err := s.metadata()
	if gone(err) {
		return translog.Policy{}, false, nil
	}
	if err != nil {
		return translog.Policy{}, false, err
	}
	return base.Log()
}

// checkpoint reads the log's checkpoint; a log that begins has an empty one.
func (s *Site) checkpoint(p translog.Policy, had bool, origin string) (translog.Checkpoint, []byte, error) {
	if !had {
		return translog.Empty(origin), nil, nil
	}
	signed, err := readFile(s.repo(translog.CheckpointPath), translog.MaxCheckpoint)
	if err != nil {
		return translog.Checkpoint{}, nil, fmt.Errorf("release log: %w", err)
	}
	c, err := translog.OpenCheckpoint(signed, p)
	if err != nil {
		// A run that was to give the log another name may have stopped half-way.
		if other, otherErr := restarted(p); otherErr == nil {
			if c, otherErr = translog.OpenCheckpoint(signed, other); otherErr == nil {
				c.Origin, err = p.Origin, nil
			}
		}
	}
	if err != nil {
		return translog.Checkpoint{}, nil, fmt.Errorf("release log: %w", err)
	}
	return c, signed, nil
}

// newEntries returns the entries of releases among contents, and with all those of
// everything that is listed already. Their order does not depend on anything else.
func newEntries(set *publisher.Set, contents []publisher.File, all bool) ([]translog.Entry, error) {
	var list []translog.Entry
	add := func(name string, digest release.Digest) {
		if e, ok := translog.EntryOf(name, digest); ok && !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	if all {
		for _, role := range releaseRoles(set) {
			targets, err := set.Targets(role)
			if err != nil {
				return nil, err
			}
			for _, t := range targets {
				add(t.Name, t.Digest)
			}
		}
	}
	for _, f := range contents {
		if name, ok := targetName(f.Path); ok {
			add(name, release.DigestOf(f.Data))
		}
	}
	return list, nil
}

func sealCheckpoint(ring *publisher.Ring, c translog.Checkpoint, keys []string) ([]byte, error) {
	signers, err := publisher.LogSigners(ring, keys...)
	if err != nil {
		return nil, err
	}
	if len(signers) == 0 {
		return nil, errors.New("sign checkpoint: no key of the release log is here")
	}
	return c.Seal(signers...)
}

// LogOptions change the release log.
type LogOptions struct {
	Mode    translog.Mode // "": as it is
	Rotate  bool          // make a new key; the old one counts no longer
	Restart bool          // take another name, so that hosts forget what they saw
	Propose bool
}

// LogResult says what hosts are told about the release log.
type LogResult struct {
	Format int             `json:"format"`
	Policy translog.Policy `json:"policy"`
	Key    string          `json:"key,omitempty"` // file of a key that was made

	Proposal *publisher.Proposal `json:"-"`
}

// ChangeLog changes what hosts demand of the release log, or its key. It takes the keys
// of targets. A site without a log gets one that begins with all releases it lists.
func (s *Site) ChangeLog(ctx context.Context, in LogOptions) (*LogResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	p, had, err := set.Log()
	if err != nil {
		return nil, err
	}
	r := &LogResult{Format: 1}
	if had && !in.Rotate && !in.Restart && (in.Mode == "" || in.Mode == p.Mode) {
		return nil, fmt.Errorf("the release log is %q already: %w", p.Mode, ErrNothingToDo)
	}
	if had && in.Restart {
		if p, err = restarted(p); err != nil {
			return nil, err
		}
	}
	if !had || in.Rotate {
		if r.Key, err = s.giveLogKey(&p); err != nil {
			return nil, err
		}
	}
	if in.Mode != "" {
		p.Mode = in.Mode
	}
	r.Policy = p
	if err := set.SetLog(p); err != nil {
		return nil, err
	}
	ring, err := s.ring()
	if err != nil {
		return nil, err
	}
	if in.Propose {
		r.Proposal, err = s.propose(set, ring, nil, "", nil)
		return r, err
	}
	if err := set.Sign(publisher.RoleTargets, s.expires(publisher.RoleTargets), ring); err != nil {
		return nil, err
	}
	if err := s.commit(ctx, set, ring, nil, false); err != nil {
		return nil, err
	}
	return r, s.record("log", p)
}

// restarted returns the policy for a log that hosts have never seen: the same name with
// another number behind it.
func restarted(p translog.Policy) (translog.Policy, error) {
	base, number, _ := strings.Cut(p.Origin, "/restart-")
	n, _ := strconv.Atoi(number)
	return p.Renamed(fmt.Sprintf("%s/restart-%d", base, n+1))
}

// giveLogKey makes a key, under the first name that is free, the only one of a log; a
// policy without a log gets one named after the key.
func (s *Site) giveLogKey(p *translog.Policy) (path string, err error) {
	k, err := publisher.Generate(publisher.Ed25519)
	if err != nil {
		return "", err
	}
	if p.Origin == "" {
		p.Mode, p.Origin = translog.Require, logOrigin(k.Public)
	}
	text, err := k.Public.LogKey(p.Origin)
	if err != nil {
		return "", err
	}
	p.Keys = []string{text}
	for n := 1; ; n++ {
		name := logKeyName
		if n > 1 {
			name = fmt.Sprintf("%s-%d", logKeyName, n)
		}
		path, err = s.saveServerKey(name, k)
		if !errors.Is(err, errTaken) {
			return path, err
		}
	}
}

// logInventory adds the files of the release log that are referred to: those that the
// checkpoint covers, and the index of what is listed.
func (s *Site) logInventory(set *publisher.Set, files map[string]bool) error {
	p, had, err := set.Log()
	if err != nil || !had {
		return err
	}
	c, _, err := s.checkpoint(p, true, p.Origin)
	if err != nil {
		return err
	}
	files[translog.CheckpointPath] = true
	for _, path := range c.Files(true) {
		files[path] = true
	}
	listed, err := newEntries(set, nil, true)
	for _, e := range listed {
		files[translog.IndexPath(e.Leaf())] = true
	}
	return err
}

// logPaths returns the files that prove releases to a host whatever it has seen: all
// hashes, 32 bytes a release, and where the releases stand.
func (s *Site) logPaths(set *publisher.Set, releases []publisher.Target) ([]string, error) {
	p, had, err := set.Log()
	if err != nil || !had {
		return nil, err
	}
	c, _, err := s.checkpoint(p, true, p.Origin)
	if err != nil {
		return nil, err
	}
	paths := append(c.Files(false), translog.CheckpointPath)
	for _, t := range releases {
		if e, ok := translog.EntryOf(t.Name, t.Digest); ok {
			paths = append(paths, translog.IndexPath(e.Leaf()))
		}
	}
	return paths, nil
}
