package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// rehearse lets the client that hosts run judge files before they are written: a fresh
// host, starting from the very first root, on the repository as it will be. It is judged
// for a moment at which nothing has expired yet: what has expired is told by Warnings,
// and must not keep anybody from renewing one role after the other.
func (s *Site) rehearse(ctx context.Context, set *publisher.Set, files []publisher.File) error {
	view := overlay{site: s, files: map[string][]byte{}}
	var targets []string
	for _, f := range files {
		view.files[f.Path] = f.Data
		if name, ok := targetName(f.Path); ok {
			targets = append(targets, name)
		}
	}
	return s.judge(ctx, view, s.beforeExpiry(set), targets)
}

// beforeExpiry is now, or a moment before the first role expired: more than a day before,
// as a client believes a timestamp that was signed up to a day after its clock, and would
// count from there.
func (s *Site) beforeExpiry(set *publisher.Set) time.Time {
	at := s.opt.Now()
	for _, r := range set.Roles() {
		if !at.Before(r.Expires) {
			at = r.Expires.Add(-25 * time.Hour)
		}
	}
	return at
}

// judge runs a fresh host's client against a view of the repository, with its clock at
// the given time, and lets it read the named targets.
func (s *Site) judge(ctx context.Context, view signing.Source, at time.Time, targets []string) error {
	factory, err := view.Fetch(ctx, "metadata/1.root.json", publisher.MaxMetadata)
	if err != nil {
		return err
	}
	client, err := signing.Open(signing.Config{Dir: newMemory(), Factory: factory, Now: func() time.Time { return at }})
	if err != nil {
		return err
	}
	if err := client.Refresh(ctx, view); err != nil {
		return err
	}
	for _, name := range targets {
		if _, err := client.Target(ctx, view, name, release.MaxManifestSize); err != nil {
			return fmt.Errorf("target %s: %w", name, err)
		}
	}
	return nil
}

// targetName returns the name of the target that a repository path holds.
func targetName(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "targets/")
	if !ok {
		return "", false
	}
	dir, file := rest[:strings.LastIndex(rest, "/")+1], rest[strings.LastIndex(rest, "/")+1:]
	_, name, ok := strings.Cut(file, ".")
	return dir + name, ok
}

// overlay is the repository with files that are not written yet.
type overlay struct {
	site  *Site
	files map[string][]byte
}

func (o overlay) Fetch(_ context.Context, path string, limit int64) ([]byte, error) {
	if b, ok := o.files[path]; ok {
		if int64(len(b)) > limit {
			return nil, fmt.Errorf("%s: got %d bytes, want at most %d", path, len(b), limit)
		}
		return b, nil
	}
	return readFile(o.site.repo(path), limit)
}

// memory is a durable.Dir that lasts as long as the rehearsal.
type memory struct {
	files map[string][]byte
	subs  map[string]*memory
}

func newMemory() *memory { return &memory{files: map[string][]byte{}, subs: map[string]*memory{}} }

func (m *memory) Read(name string) ([]byte, error) {
	b, ok := m.files[name]
	if !ok {
		return nil, notThere(name)
	}
	return slices.Clone(b), nil
}

func (m *memory) Replace(name string, data []byte) error {
	m.files[name] = slices.Clone(data)
	return nil
}

func (m *memory) Remove(name string) error         { delete(m.files, name); return nil }
func (m *memory) List() ([]string, error)          { return slices.Sorted(maps.Keys(m.files)), nil }
func (m *memory) Lock() (unlock func(), err error) { return func() {}, nil }

func (m *memory) Sub(name string) (durable.Dir, error) {
	if m.subs[name] == nil {
		m.subs[name] = newMemory()
	}
	return m.subs[name], nil
}
