package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/diff"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
)

// image is an image on this machine: one to be published, or an old one unpacked.
type image struct {
	name string
	file *os.File
	size int64 // bytes of the file; the image may be padded
	salt release.Salt
}

func (i *image) source() *diff.Source {
	if i == nil {
		return nil
	}
	return &diff.Source{Reader: i.file, Size: i.size, Salt: i.salt}
}

// saltOf returns the verity salt of an image. It depends on nothing but what the image is
// for: the same bits have the same root in every release and every channel, so that a host
// that refused them knows them again.
func saltOf(compatible, name string) release.Salt {
	d := sha256.Sum256([]byte("twinkeel image salt 1\x00" + compatible + "\x00" + name))
	return d[:]
}

// openImage opens the file of an image to be published.
func openImage(name, path, compatible string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	// Seek, unlike Stat, also tells the size of a block device.
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < 1 {
		err = fmt.Errorf("%s is empty", path)
	}
	if err == nil && size > release.MaxImageSize {
		err = fmt.Errorf("%s: got %d bytes, want at most %d", path, size, int64(release.MaxImageSize))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	return &image{name: name, file: f, size: size, salt: saltOf(compatible, name)}, nil
}

// made is a note on a finished payload, kept in staging/made so that a run that died, or a
// release of the same bits elsewhere, need not make it again.
type made struct {
	Blob release.Blob `json:"blob"`
}

func (s *Site) madeName(from, to deltas.Identity) string {
	key := fmt.Sprintf("container %d\x00%d %s %x\x00%d %s %x", deltas.Version, from.Size, from.Root, []byte(from.Salt), to.Size, to.Root, []byte(to.Salt))
	d := sha256.Sum256([]byte(key))
	return hex.EncodeToString(d[:]) + ".json"
}

// notes is the directory of notes on finished payloads.
func (s *Site) notes() (durable.Dir, error) {
	return durable.OpenDir(s.staging("made"), true)
}

// recall returns the payload that leads from one image to the other, if a note says that
// it is finished. A note is only a hint: the payload is verified like a new one.
func (s *Site) recall(from, to deltas.Identity) (release.Blob, bool) {
	return s.recallNote(s.madeName(from, to))
}

func (s *Site) recallNote(name string) (release.Blob, bool) {
	notes, err := s.notes()
	if err != nil {
		return release.Blob{}, false
	}
	b, err := notes.Read(name)
	var m made
	if err != nil || json.Unmarshal(b, &m) != nil {
		return release.Blob{}, false
	}
	st, err := os.Stat(s.repo(release.BlobPath(m.Blob.SHA256)))
	return m.Blob, err == nil && st.Size() == m.Blob.Size
}

func (s *Site) remember(from, to deltas.Identity, blob release.Blob) error {
	return s.rememberNote(s.madeName(from, to), blob)
}

func (s *Site) rememberNote(name string, blob release.Blob) error {
	b, err := json.Marshal(made{blob})
	if err != nil {
		return err
	}
	notes, err := s.notes()
	if err != nil {
		return err
	}
	return notes.Replace(name, b)
}

// errNoGain means that a delta saves less than a twentieth of what it is to replace.
var errNoGain = errors.New("the delta saves next to nothing")

// payload makes the container that leads from old (nil: from nothing) to now, verifies it
// by applying it, and puts it into the repository, where nothing refers to it yet. If it is
// not clearly smaller than full, it is errNoGain; full 0 means that it is the full image.
func (s *Site) payload(ctx context.Context, old, now *image, from, to deltas.Identity, full int64) (blob release.Blob, err error) {
	step := "full " + now.name
	if old != nil {
		step = "delta " + now.name + " from " + from.Root.Short()
	}
	if blob, ok := s.recall(from, to); ok {
		if err := s.verifyBlob(ctx, blob, old, step); err == nil {
			return blob, nil
		}
		// It can only be damaged. As its name is its digest, it must make room for the
		// whole one.
		s.opt.Log.Warn("a finished payload does not verify and is made again", "blob", blob.SHA256)
		if err := s.removeBlob(blob); err != nil {
			return blob, err
		}
	}
	out, err := s.stage("container.tmp")
	if err != nil {
		return blob, err
	}
	defer out.discard()
	scratch, err := s.stage("payloads.tmp")
	if err != nil {
		return blob, err
	}
	defer scratch.discard()
	result, err := diff.Create(ctx, old.source(), now.source(), out, diff.Options{
		Spool:    scratch,
		Progress: func(done, total int64) { s.opt.Progress(step, done, total) },
	})
	if err != nil {
		return blob, fmt.Errorf("make %s: %w", step, err)
	}
	if !sameIdentity(result.Head.Target, to) || !sameIdentity(result.Head.Base, from) {
		return blob, fmt.Errorf("make %s: the image changed while it was read", step)
	}
	if full > 0 && result.Blob.Size > full-full/20 {
		return blob, errNoGain
	}
	if err := diff.Verify(ctx, out, result.Blob.Size, old.source(), func(done, total int64) { s.opt.Progress("verify "+step, done, total) }); err != nil {
		return blob, fmt.Errorf("verify %s: %w", step, err)
	}
	// If a file lies there already, it is replaced: whatever it holds, this one is right.
	if err := out.place(release.BlobPath(result.Blob.SHA256)); err != nil {
		return blob, err
	}
	return result.Blob, s.remember(from, to, result.Blob)
}

func (s *Site) removeBlob(blob release.Blob) error {
	path := s.repo(release.BlobPath(blob.SHA256))
	if err := s.medium.Remove(path); err != nil {
		return err
	}
	return s.medium.SyncDir(filepath.Dir(path))
}

func sameIdentity(a, b deltas.Identity) bool {
	return a.Size == b.Size && a.Root == b.Root && string(a.Salt) == string(b.Salt)
}

// verifyBlob compares a payload with its digests and applies it.
func (s *Site) verifyBlob(ctx context.Context, blob release.Blob, old *image, step string) error {
	f, err := s.openBlob(ctx, blob)
	if err != nil {
		return err
	}
	defer f.Close()
	return diff.Verify(ctx, f, blob.Size, old.source(), func(done, total int64) { s.opt.Progress("verify "+step, done, total) })
}

// openBlob opens a payload after comparing all of it with its digest.
func (s *Site) openBlob(ctx context.Context, blob release.Blob) (*os.File, error) {
	f, err := os.Open(s.repo(release.BlobPath(blob.SHA256)))
	if err != nil {
		return nil, fmt.Errorf("payload %s: %w", blob.SHA256, err)
	}
	if err := checkBlob(ctx, f, blob); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// errDamaged means that a file in the repository is not what its name says.
var errDamaged = errors.New("the file is damaged")

func checkBlob(ctx context.Context, f io.Reader, blob release.Blob) error {
	h := sha256.New()
	head := sha256.New()
	n, err := io.Copy(io.MultiWriter(head, h), io.LimitReader(contextReader{ctx, f}, blob.Head.Size))
	if err == nil {
		var more int64
		more, err = io.Copy(h, io.LimitReader(contextReader{ctx, f}, blob.Size-n+1))
		n += more
	}
	switch {
	case err != nil:
		return fmt.Errorf("payload %s: %w", blob.SHA256, err)
	case n != blob.Size:
		return fmt.Errorf("payload %s: size: got %d bytes or more, want %d: %w", blob.SHA256, n, blob.Size, errDamaged)
	case release.Digest(h.Sum(nil)) != blob.SHA256:
		return fmt.Errorf("payload %s: got SHA-256 %x: %w", blob.SHA256, h.Sum(nil), errDamaged)
	case release.Digest(head.Sum(nil)) != blob.Head.SHA256:
		return fmt.Errorf("payload %s: head: got SHA-256 %x, want %s: %w", blob.SHA256, head.Sum(nil), blob.Head.SHA256, errDamaged)
	}
	return nil
}

// contextReader stops when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
