package child

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	maxEntries   = 100_000
	maxPathBytes = 16 << 20 // of all paths together
)

// bundle serves files out of a tar archive by position.
type bundle struct {
	r     io.ReaderAt
	files map[string]extent
}

type extent struct{ offset, size int64 }

// openBundle indexes the archive behind a descriptor. Its size is the one it has now:
// what somebody appends later is not seen, what somebody cuts off is an error to read.
func openBundle(f *os.File) (*bundle, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("bundle: got a file of mode %v, want a regular file", info.Mode().Type())
	}
	files, err := indexTar(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return &bundle{r: f, files: files}, nil
}

// indexTar lists where each file of an archive lies. The archive holds regular files
// only, each path once, and no holes, so that a file is one run of bytes.
func indexTar(r io.ReaderAt, size int64) (map[string]extent, error) {
	section := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(section)
	files := map[string]extent{}
	paths := 0
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(files), err)
		}
		if h.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("entry %.200q: got type %q, want a regular file", h.Name, h.Typeflag)
		}
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse") {
				return nil, fmt.Errorf("entry %.200q: got a file with holes, want one without", h.Name)
			}
		}
		if err := wire.CheckPath(h.Name); err != nil {
			return nil, err
		}
		if _, twice := files[h.Name]; twice {
			return nil, fmt.Errorf("entry %q: is there twice", h.Name)
		}
		if paths += len(h.Name); len(files) == maxEntries || paths > maxPathBytes {
			return nil, fmt.Errorf("got more than %d entries or %d bytes of paths", maxEntries, maxPathBytes)
		}
		// The tar reader takes whole blocks, so it stands at the first byte of the file.
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Size < 0 || h.Size > size-offset {
			return nil, fmt.Errorf("entry %q: got %d bytes, of which %d are there", h.Name, h.Size, size-offset)
		}
		files[h.Name] = extent{offset, h.Size}
	}
}

// get implements source with the same meaning of offset and limit as a server.
func (b *bundle) get(ctx context.Context, r wire.Request, w io.Writer) error {
	e, ok := b.files[r.Path]
	switch {
	case !ok:
		return fail(wire.CodeAbsent, "not in the bundle")
	case r.Offset > 0 && r.Offset >= e.size:
		return fail(wire.CodeBroken, "got offset %d, the file has %d bytes", r.Offset, e.size)
	}
	part := io.NewSectionReader(b.r, e.offset+r.Offset, min(r.Limit, e.size-r.Offset))
	buf := make([]byte, copyBuffer)
	for ctx.Err() == nil {
		n, err := part.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if pos, _ := part.Seek(0, io.SeekCurrent); pos != part.Size() {
				return fail(wire.CodeCorrupt, "the bundle is shorter than when it was opened")
			}
			return nil
		}
		if err != nil {
			return fail(wire.CodeUnavailable, "bundle: %v", err)
		}
	}
	return ctx.Err()
}
