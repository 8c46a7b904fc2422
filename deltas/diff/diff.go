package diff

import (
	"context"
	"errors"
	"io"

	"github.com/twinkeel/twinkeel/deltas"
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
	Spool    Spool                   // nil = memory
	Progress func(done, total int64) // called now and then with work done, in bytes; never concurrently
}

// Result says what was made.
type Result struct {
	Head *deltas.Head
	Blob release.Blob
}

// Create writes to out the container that leads from old, or from nothing if old is
// nil, to new. The bytes do not depend on the number of threads.
func Create(ctx context.Context, old, new *Source, out io.Writer, o Options) (Result, error) {
	return Result{}, errors.New("diff: not available")
}

// Verify applies the container of size bytes in r to old (nil if it has no base) and
// compares every segment and the root of the result with the head. It stores nothing.
func Verify(ctx context.Context, r io.ReaderAt, size int64, old *Source, progress func(done, total int64)) error {
	return errors.New("diff: not available")
}
