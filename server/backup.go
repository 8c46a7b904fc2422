package server

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// backedUp are the parts of a site that a backup holds, in their order in it. site.json
// comes last, so that a restore that stops half-way leaves a directory that is no site.
// Not in it: staging, which can be made again, and keys/spare, whose place is elsewhere.
var backedUp = []string{"keys", "repository", "history.jsonl", "ledger.json", "site.json"}

// BackupResult says what a backup holds.
type BackupResult struct {
	Format int   `json:"format"`
	Files  int   `json:"files"`
	Bytes  int64 `json:"bytes"` // of the files
}

// Backup writes the site into a tar archive. It holds the server's keys in the clear.
func (s *Site) Backup(ctx context.Context, path string) (*BackupResult, error) {
	r := &BackupResult{Format: 1}
	err := writeArchive(path, 0o600, func(w *tar.Writer) error {
		for _, part := range backedUp {
			if err := s.backupPart(ctx, w, part, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return r, nil
}

func (s *Site) backupPart(ctx context.Context, w *tar.Writer, part string, r *BackupResult) error {
	return filepath.WalkDir(filepath.Join(s.dir, part), func(name string, e fs.DirEntry, err error) error {
		if gone(err) {
			return nil // a site that has not seen gc has no ledger
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, name)
		if err != nil {
			return err
		}
		if rel == filepath.Join("keys", "spare") {
			return filepath.SkipDir
		}
		if !e.Type().IsRegular() {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		r.Files++
		r.Bytes += st.Size()
		return addFile(ctx, w, filepath.ToSlash(rel), name, st.Mode().Perm(), st.ModTime())
	})
}

// addFile copies a file into an archive.
func addFile(ctx context.Context, w *tar.Writer, name, path string, mode fs.FileMode, modified time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(header(name, st.Size(), mode, modified)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := io.Copy(w, contextReader{ctx, f}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func header(name string, size int64, mode fs.FileMode, modified time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(mode.Perm()), ModTime: modified.UTC().Truncate(time.Second)}
}

// writeArchive writes a tar archive that appears at path only when it is complete and
// durable.
func writeArchive(path string, mode fs.FileMode, fill func(*tar.Writer) error) error {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := tar.NewWriter(f)
	err = fill(w)
	if err == nil {
		err = errors.Join(w.Close(), f.Chmod(mode), f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return osMedium{}.SyncDir(dir)
}

// Restore unpacks a backup into dir, which must not exist or be empty, and verifies the
// repository.
func Restore(ctx context.Context, archive, dir string, o Options) (*VerifyResult, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("restore %s: the directory is not empty", dir)
	}
	if err := unpackArchive(ctx, tar.NewReader(f), dir); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	s, err := Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer s.Close()
	// A backup is older than its timestamp lives: that is renewed next.
	return s.verify(ctx, false, s.beforeExpiry)
}

// unpackArchive unpacks regular files below dir, and nothing anywhere else.
func unpackArchive(ctx context.Context, r *tar.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Mkdir("staging", 0o700); err != nil {
		return err
	}
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || !slices.Contains(backedUp, strings.Split(h.Name, "/")[0]) {
			return fmt.Errorf("%.200q does not belong into a backup", h.Name)
		}
		if err := unpackFile(ctx, root, h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unpackFile(ctx context.Context, root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.FromSlash(h.Name)
	mode := fs.FileMode(0o755)
	if strings.HasPrefix(h.Name, "keys/") {
		mode = 0o700
	}
	if err := root.MkdirAll(filepath.Dir(name), mode); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(h.Mode).Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, contextReader{ctx, r})
	return errors.Join(err, f.Sync(), f.Close())
}
