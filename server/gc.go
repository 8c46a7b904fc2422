package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// GraceTime is how long a file stays after nothing refers to it any more: hosts may be in
// the middle of a download, and proposals may wait for signatures.
const GraceTime = 30 * day

// ledger says since when files have not been referred to, by repository path.
type ledger struct {
	Format       int                  `json:"format"`
	Unreferenced map[string]time.Time `json:"unreferenced"`
}

// GCOptions say how to clean up.
type GCOptions struct {
	DryRun bool
	Quick  bool // do not read payloads: only their sizes are compared
}

// GCResult says what was or would be removed.
type GCResult struct {
	Format  int             `json:"format"`
	DryRun  bool            `json:"dryRun"`
	Removed []string        `json:"removed"`
	Bytes   int64           `json:"bytes"` // of what was removed
	Waiting []WaitingToBeGC `json:"waiting"`
}

// WaitingToBeGC is a file that nothing refers to, and when it may be removed.
type WaitingToBeGC struct {
	Path string    `json:"path"`
	Due  time.Time `json:"due"`
}

// GC removes files that nothing has referred to for GraceTime. Roots are always kept. It
// removes nothing from a repository that is damaged: what looks superfluous then may be
// what is needed to mend it.
func (s *Site) GC(ctx context.Context, in GCOptions) (*GCResult, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	inventory, err := s.inventory(set)
	if err != nil {
		return nil, err
	}
	if problems := s.checkPayloads(ctx, inventory, in.Quick); len(problems) > 0 {
		return nil, fmt.Errorf("gc: nothing was removed, because the repository is damaged: %w", errors.Join(problems...))
	}
	l, err := s.readLedger()
	if err != nil {
		return nil, err
	}
	now := s.opt.Now().UTC().Truncate(time.Second)
	r := &GCResult{Format: 1, DryRun: in.DryRun, Removed: []string{}, Waiting: []WaitingToBeGC{}}
	unreferenced := map[string]time.Time{}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if inventory.has(file) {
			continue
		}
		since, ok := l.Unreferenced[file]
		if !ok {
			since = now
		}
		if since.After(now) || now.Sub(since) < GraceTime {
			unreferenced[file] = since
			r.Waiting = append(r.Waiting, WaitingToBeGC{Path: file, Due: since.Add(GraceTime)})
			continue
		}
		r.Removed = append(r.Removed, file)
		r.Bytes += files[file]
	}
	if in.DryRun {
		return r, nil
	}
	return r, s.collectGarbage(r.Removed, unreferenced)
}

// collectGarbage writes the ledger first: a run that dies between leaves files that the
// next one finds unreferenced anew, and keeps too long rather than too short.
func (s *Site) collectGarbage(remove []string, unreferenced map[string]time.Time) error {
	b, err := json.Marshal(ledger{Format: 1, Unreferenced: unreferenced})
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	if err := s.state.Replace("ledger.json", b); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	for _, file := range remove {
		if err := s.medium.Remove(s.repo(file)); err != nil {
			return fmt.Errorf("gc: %w", err)
		}
	}
	if err := s.forgetNotes(); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	if len(remove) == 0 {
		return nil
	}
	return s.record("gc", remove)
}

// forgetNotes drops the notes on payloads that are gone.
func (s *Site) forgetNotes() error {
	notes, err := s.notes()
	if err != nil {
		return err
	}
	names, err := notes.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := notes.Read(name)
		if err != nil {
			return err
		}
		var m made
		if json.Unmarshal(b, &m) == nil {
			if _, err := os.Stat(s.repo(release.BlobPath(m.Blob.SHA256))); err == nil {
				continue
			}
		}
		if err := notes.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) readLedger() (*ledger, error) {
	b, err := s.state.Read("ledger.json")
	if gone(err) {
		return &ledger{Format: 1}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var l ledger
	if err := json.Unmarshal(b, &l); err != nil || l.Format != 1 {
		return nil, fmt.Errorf("ledger.json is damaged; remove it, and files will wait for another %d days: %w", GraceTime/day, err)
	}
	return &l, nil
}

// inventory is everything that a repository refers to.
type inventory struct {
	files     map[string]bool // metadata and targets, by repository path
	blobs     map[release.Digest]release.Blob
	manifests int
}

func (i *inventory) has(file string) bool {
	if i.files[file] || strings.HasSuffix(file, "."+publisher.RoleRoot+".json") {
		return true
	}
	d, err := release.ParseDigest(path.Base(file))
	if err != nil || !strings.HasPrefix(file, "blobs/") {
		return false
	}
	_, ok := i.blobs[d]
	return ok
}

// inventory reads all manifests; each is compared with what was signed.
func (s *Site) inventory(set *publisher.Set) (*inventory, error) {
	i := &inventory{files: map[string]bool{}, blobs: map[release.Digest]release.Blob{}}
	for _, file := range set.MetadataFiles() {
		i.files["metadata/"+file] = true
	}
	if err := s.logInventory(set, i.files); err != nil {
		return nil, err
	}
	for _, role := range set.Roles() {
		if role.Name != publisher.RoleTargets && !strings.Contains(role.Name, "-") {
			continue
		}
		targets, err := set.Targets(role.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			i.files[t.Path()] = true
			list, isRelease, err := s.payloads(t)
			if err != nil {
				return nil, err
			}
			if isRelease {
				i.manifests++
			}
			for _, b := range list {
				i.blobs[b.SHA256] = b
			}
		}
	}
	return i, nil
}

// checkPayloads returns what is wrong with the payloads of an inventory.
func (s *Site) checkPayloads(ctx context.Context, i *inventory, quick bool) (problems []error) {
	digests := slices.SortedFunc(maps.Keys(i.blobs), func(a, b release.Digest) int { return slices.Compare(a[:], b[:]) })
	for n, d := range digests {
		s.opt.Progress("read payloads", int64(n), int64(len(digests)))
		blob := i.blobs[d]
		if quick {
			st, err := os.Stat(s.repo(release.BlobPath(d)))
			if err == nil && st.Size() != blob.Size {
				err = fmt.Errorf("size: got %d, want %d", st.Size(), blob.Size)
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("payload %s: %w", d, err))
			}
			continue
		}
		f, err := s.openBlob(ctx, blob)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		f.Close()
	}
	return problems
}

// files returns the size of every file in the repository, by path.
func (s *Site) files() (map[string]int64, error) {
	files := map[string]int64{}
	base := s.RepositoryDir()
	err := filepath.WalkDir(base, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, name)
		files[filepath.ToSlash(rel)] = st.Size()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list repository: %w", err)
	}
	return files, nil
}
