package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/signing/publisher"
	"github.com/twinkeel/twinkeel/signing/translog"
)

// commit publishes: what logFiles returns first, then contents of new targets, then what
// Seal returns. Each file is
// durable before the next is begun, so that wherever this stops,
//
//   - before timestamp.json: hosts see the old state; the new files are referred to by
//     nothing, a later run writes its own versions beside them, and gc takes them away;
//   - after it: hosts see the new state, and all that it names is there.
func (s *Site) commit(ctx context.Context, set *publisher.Set, ring *publisher.Ring, contents []publisher.File, keepSnapshot bool) error {
	logged, err := s.logFiles(ctx, set, ring, contents)
	if err != nil {
		return err
	}
	files, err := set.Seal(ring, s.online(), keepSnapshot)
	if err != nil {
		return err
	}
	return s.write(ctx, set, slices.Concat(logged, contents, files))
}

// write writes files in their order, after the client that hosts run has accepted them.
func (s *Site) write(ctx context.Context, set *publisher.Set, files []publisher.File) error {
	if err := s.rehearse(ctx, set, files); err != nil {
		return fmt.Errorf("not published, because hosts would refuse it: %w", err)
	}
	for _, f := range files {
		if err := s.put(f); err != nil {
			return err
		}
	}
	return nil
}

// put writes one file of the repository, durably. A file that is there keeps its content,
// but for timestamp.json, the log's checkpoint, and files of the log that the checkpoint
// does not cover yet.
func (s *Site) put(f publisher.File) error {
	path := s.repo(f.Path)
	if f.Path != "metadata/timestamp.json" {
		old, err := readFile(path, int64(len(f.Data)))
		if err == nil && bytes.Equal(old, f.Data) {
			return nil
		}
		if !strings.HasPrefix(f.Path, translog.Dir) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write %s: it exists with other content", f.Path)
		}
	}
	staged, err := s.stage("put.tmp")
	if err != nil {
		return err
	}
	defer staged.discard()
	if _, err := staged.Write(f.Data); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return staged.place(f.Path)
}

// staged is a file under construction in the staging directory.
type staged struct {
	spool
	site *Site
	name string
	open bool
}

// stage begins a file. Files in staging are never served, whatever state they are in.
func (s *Site) stage(name string) (*staged, error) {
	f, err := s.medium.Create(s.staging(name), 0o644)
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	return &staged{spool: f, site: s, name: name, open: true}, nil
}

// place makes the file durable at path in the repository.
func (f *staged) place(path string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.site.makeParents(path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	to := f.site.repo(path)
	if err := f.site.medium.Rename(f.site.staging(f.name), to); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f.open = false
	err := errors.Join(f.Close(), f.site.medium.SyncDir(filepath.Dir(to)))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// discard removes the file unless it was placed. What it cannot remove, the next run does.
func (f *staged) discard() {
	if f.open {
		f.open = false
		_ = f.Close()
		_ = f.site.medium.Remove(f.site.staging(f.name))
	}
}

// makeParents makes the directories above a repository path, durably.
func (s *Site) makeParents(path string) error {
	dir := s.RepositoryDir()
	for _, element := range strings.Split(filepath.ToSlash(filepath.Dir(filepath.FromSlash(path))), "/") {
		parent := dir
		dir = filepath.Join(dir, element)
		err := s.medium.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = s.medium.SyncDir(parent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
