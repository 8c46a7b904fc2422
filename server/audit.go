package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// errTaken means that a key of that name exists.
var errTaken = errors.New("a key of that name exists")

// saveServerKey keeps a key that the server itself signs with.
func (s *Site) saveServerKey(name string, key *publisher.PrivateKey) (string, error) {
	dir := filepath.Join(s.dir, "keys")
	for _, suffix := range []string{".pub", ".pem"} {
		if _, err := os.Lstat(filepath.Join(dir, name+suffix)); err == nil {
			return "", errTaken
		}
	}
	return filepath.Join(dir, name+".pem"), publisher.SaveKey(dir, name, key, nil)
}

// LogEntry is an entry of the release log for people: a release in a channel, or one of an
// application.
type LogEntry struct {
	Index      int64           `json:"index"`
	Channel    string          `json:"channel,omitempty"`
	Compatible string          `json:"compatible,omitempty"`
	Publisher  string          `json:"publisher,omitempty"`
	Name       string          `json:"name,omitempty"`
	Version    release.Version `json:"version"`
	Manifest   release.Digest  `json:"manifest"`
}

// LogReport is what a reading of the release log found.
type LogReport struct {
	Format   int             `json:"format"`
	Policy   translog.Policy `json:"policy"`
	Size     int64           `json:"size"`
	Root     release.Digest  `json:"root"`
	Entries  []LogEntry      `json:"entries"`            // from the first that was asked for
	Unlisted int             `json:"unlisted,omitempty"` // withdrawn, retired, or never offered
	Problems []string        `json:"problems"`
}

func (r *LogReport) add(index int64, e translog.Entry) {
	r.Entries = append(r.Entries, LogEntry{index, e.Channel, e.Compatible, e.Publisher, e.Name, e.Version, e.Manifest})
}

// Damaged returns an error that sums up the problems, or nil.
func (r *LogReport) Damaged() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return fmt.Errorf("release log: %d problems: %s", len(r.Problems), strings.Join(r.Problems, "; "))
}

// Log reads the site's release log from an entry on. Each entry is checked.
func (s *Site) Log(ctx context.Context, from int64) (*LogReport, error) {
	p, had, err := s.publishedLog()
	if err != nil {
		return nil, err
	}
	if !had {
		return nil, errors.New("the site has no release log; `log DIR require` begins one")
	}
	c, _, err := s.checkpoint(p, true, p.Origin)
	if err != nil {
		return nil, err
	}
	r := &LogReport{Format: 1, Policy: p, Size: c.Size, Root: c.Root, Entries: []LogEntry{}, Problems: []string{}}
	err = translog.At(ctx, overlay{site: s}, c).Entries(from, func(index int64, e translog.Entry) error {
		r.add(index, e)
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("release log: %w", err)
	}
	return r, nil
}

// VerifyLog builds the whole tree anew out of the entries and compares every file with
// what is served, and looks up every release that is listed.
func (s *Site) VerifyLog(ctx context.Context) (*LogReport, error) {
	r, err := s.Log(ctx, 0)
	if err != nil {
		return nil, err
	}
	entries := make([]translog.Entry, len(r.Entries))
	known := map[translog.Entry]bool{}
	for i, e := range r.Entries {
		entries[i] = translog.Entry{Channel: e.Channel, Compatible: e.Compatible, Publisher: e.Publisher, Name: e.Name,
			Version: e.Version, Manifest: e.Manifest}
		known[entries[i]] = true
	}
	files, rebuilt, err := translog.At(ctx, overlay{site: s}, translog.Empty(r.Policy.Origin)).Append(entries)
	if err != nil {
		return nil, err
	}
	if rebuilt.Root != r.Root {
		r.Problems = append(r.Problems, "the entries do not make up the tree that was signed")
	}
	for _, f := range files {
		b, err := readFile(s.repo(f.Path), int64(len(f.Data)))
		switch {
		case gone(err) && strings.HasPrefix(f.Path, translog.IndexPath(release.Digest{})[:len("log/index/")]):
			continue // of a release that is listed no longer
		case err != nil:
			r.Problems = append(r.Problems, err.Error())
		case !bytes.Equal(b, f.Data):
			r.Problems = append(r.Problems, f.Path+": differs from what the entries make of it")
		}
	}
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	listed, err := newEntries(set, nil, true)
	if err != nil {
		return nil, err
	}
	for _, e := range listed {
		if !known[e] {
			r.Problems = append(r.Problems, fmt.Sprintf("release %s is not in the log", e))
		}
		delete(known, e)
	}
	r.Unlisted = len(known)
	return r, nil
}

// monitorFile holds the checkpoint that a monitor saw last.
const monitorFile = "monitor.checkpoint"

// MonitorOptions are what an auditor brings along.
type MonitorOptions struct {
	Source  signing.Source
	Factory []byte // the first root, from elsewhere than the source
	Dir     string // what the monitor remembers
	Options Options
}

// Monitor reads a repository as an outsider: it checks the metadata as a host does, that
// the log extends the one it saw last, and that every listed release stands in it, and
// returns the entries that are new. Whether those are what was meant to be released, only
// the publisher can say.
func Monitor(ctx context.Context, in MonitorOptions) (*LogReport, error) {
	o := in.Options.withDefaults()
	state, err := durable.OpenDir(in.Dir, true)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	unlock, err := state.Lock()
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	defer unlock()
	trust, err := state.Sub("trust")
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	client, err := signing.Open(signing.Config{Dir: trust, Factory: in.Factory, Now: o.Now})
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	if err := client.Refresh(ctx, in.Source); err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	p, had, err := client.LogPolicy(ctx, in.Source)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	if !had {
		return nil, errors.New("monitor: the repository has no release log")
	}
	r := &LogReport{Format: 1, Policy: p, Entries: []LogEntry{}, Problems: []string{}}
	if err := r.follow(ctx, in.Source, state); err != nil {
		return nil, err
	}
	return r, r.listed(ctx, client, in.Source)
}

// follow reads the log from the checkpoint that was seen last on.
func (r *LogReport) follow(ctx context.Context, src signing.Source, state durable.Dir) error {
	signed, err := src.Fetch(ctx, translog.CheckpointPath, translog.MaxCheckpoint)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	now, err := translog.OpenCheckpoint(signed, r.Policy)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	r.Size, r.Root = now.Size, now.Root
	seen := translog.Empty(r.Policy.Origin)
	switch b, err := state.Read(monitorFile); {
	case err == nil:
		c, err := translog.Remembered(string(b))
		if err != nil {
			return fmt.Errorf("monitor: %s: %w", monitorFile, err)
		}
		if c.Origin == seen.Origin {
			seen = c
		} else {
			r.Problems = append(r.Problems, fmt.Sprintf("the log began anew as %s; it was %s", seen.Origin, c.Origin))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("monitor: %w", err)
	}
	view := translog.At(ctx, src, now)
	if err := view.Extends(seen); err != nil {
		r.Problems = append(r.Problems, err.Error())
		return nil
	}
	err = view.Entries(seen.Size, func(index int64, e translog.Entry) error {
		r.add(index, e)
		return ctx.Err()
	})
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
		return nil
	}
	if err := state.Replace(monitorFile, signed); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	return nil
}

// listed looks every listed release up in the log.
func (r *LogReport) listed(ctx context.Context, client *signing.Client, src signing.Source) error {
	for _, role := range client.Roles(ctx, src) {
		if !strings.HasPrefix(role, "os-") && !strings.HasPrefix(role, "app-") {
			continue
		}
		names, err := client.Names(ctx, src, role)
		if err != nil {
			return fmt.Errorf("monitor: %w", err)
		}
		for _, name := range names {
			if _, err := client.Target(ctx, src, name, release.MaxManifestSize); err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
		}
		if w := client.State().Log.Warning; w != "" {
			r.Problems = append(r.Problems, w)
		}
	}
	return nil
}
