package diff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// Source is an image, or any file, of which a container is made. A size that is not
// deltas.PaddedSize of itself is padded with zero bytes.
type Source struct {
	Reader io.ReaderAt
	Size   int64        // bytes
	Salt   release.Salt // of the verity tree
}

// Spool holds payloads until the head before them is known. An *os.File is one.
type Spool interface {
	io.Writer
	io.ReaderAt
}

// Options are the zero value for defaults.
type Options struct {
	Threads  int                     // 0 = as many as there are processors
	Spool    Spool                   // empty; nil = memory
	Progress func(done, total int64) // called now and then with work done, in bytes; never concurrently
	Coders   *Coders                 // nil = new ones
}

// Result says what was made.
type Result struct {
	Head *deltas.Head
	Blob release.Blob
}

// Create writes to out the container that leads from old, or from nothing if old is
// nil, to new. The bytes do not depend on the number of threads. After an error,
// ctx's among them, what was written to out is worth nothing.
func Create(ctx context.Context, old, new *Source, out io.Writer, o Options) (Result, error) {
	c, err := newCreator(old, new, o)
	if err != nil {
		return Result{}, fmt.Errorf("create container: %w", err)
	}
	for _, step := range []func(context.Context) error{c.scanOld, c.scanNew, c.alignGaps, c.code} {
		if err := step(ctx); err != nil {
			return Result{}, fmt.Errorf("create container: %w", err)
		}
	}
	r, err := c.write(out)
	if err != nil {
		return Result{}, fmt.Errorf("create container: %w", err)
	}
	return r, nil
}

// Verify applies the container of size bytes in r to old (nil if it has no base) and
// compares every segment and the root of the result with the head. It stores nothing.
func Verify(ctx context.Context, r io.ReaderAt, size int64, old *Source, progress func(done, total int64)) error {
	var base *decode.Base
	if old != nil {
		base = &decode.Base{Reader: old.Reader, Size: old.Size}
	}
	if err := decode.Apply(ctx, decode.Container{Reader: r, Size: size}, base, nil, decode.Options{Progress: progress}); err != nil {
		return fmt.Errorf("verify container: %w", err)
	}
	return nil
}

// image is a padded source.
type image struct {
	io.ReaderAt
	size int64
	salt release.Salt
}

func newImage(s *Source) (image, error) {
	if s.Size < 0 || s.Size > release.MaxImageSize {
		return image{}, fmt.Errorf("got %d bytes, want at most %d", s.Size, int64(release.MaxImageSize))
	}
	return image{deltas.Pad(s.Reader, s.Size), deltas.PaddedSize(s.Size), s.Salt}, nil
}

func (i image) read(b []byte, offset int64) error {
	if n, err := i.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read at %d: %w", offset+int64(n), err)
	}
	return nil
}

// creator is one run of Create.
type creator struct {
	old                      image
	hasOld                   bool
	new                      image
	threads                  int
	coders                   *Coders
	spool                    Spool
	progress                 *progress
	index                    *index  // of old, or nil
	oldPrograms, newPrograms []int64 // where blocks begin that begin a program
	areas                    []area  // of old
	pieces                   []piece // of new, by offset
	nodes                    []release.Digest
	head                     deltas.Head
	payloads                 int64 // bytes in spool
}

func newCreator(old, new *Source, o Options) (*creator, error) {
	c := &creator{threads: o.Threads, coders: o.Coders, spool: o.Spool, hasOld: old != nil}
	if c.threads <= 0 {
		c.threads = runtime.GOMAXPROCS(0)
	}
	if c.spool == nil {
		c.spool = &memory{}
	}
	var err error
	if c.new, err = newImage(new); err != nil {
		return nil, fmt.Errorf("new: %w", err)
	}
	if old != nil {
		if c.old, err = newImage(old); err != nil {
			return nil, fmt.Errorf("old: %w", err)
		}
	}
	c.progress = &progress{report: o.Progress, total: c.old.size + 2*c.new.size}
	if c.hasOld {
		c.progress.total += c.new.size
	}
	c.nodes = make([]release.Digest, verity.Spans(c.new.size))
	c.head.Target = deltas.Identity{Size: c.new.size, Salt: c.new.salt}
	c.head.Padding = c.new.size - new.Size
	return c, nil
}

// write writes head and payloads to out.
func (c *creator) write(out io.Writer) (Result, error) {
	head, err := c.head.Encode()
	if err != nil {
		return Result{}, err
	}
	h := sha256.New()
	w := io.MultiWriter(out, h)
	if _, err := w.Write(head); err != nil {
		return Result{}, err
	}
	n, err := io.Copy(w, io.NewSectionReader(c.spool, 0, c.payloads))
	if err != nil {
		return Result{}, err
	}
	if n != c.payloads {
		return Result{}, fmt.Errorf("spool: got %d bytes, want %d", n, c.payloads)
	}
	var r Result
	// Read back, the head has the offsets that its own length decides.
	if r.Head, err = deltas.ParseHead(head); err != nil {
		return Result{}, err
	}
	r.Blob.Head = release.Head{SHA256: release.DigestOf(head), Size: int64(len(head))}
	r.Blob.Size = int64(len(head)) + n
	h.Sum(r.Blob.SHA256[:0])
	return r, nil
}

// memory is the Spool that is used if none is given.
type memory struct{ bytes.Buffer }

func (m *memory) ReadAt(b []byte, offset int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(b, offset)
}
