package mount

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/twinkeel/twinkeel/internal/erofs"
)

// maxContent is the largest file that Content reads.
const maxContent = 256 << 20

// errFound ends a walk.
var errFound = errors.New("found")

// Content reads a file out of an image of size bytes that is not mounted, by its absolute
// path in it.
func Content(image string, size int64, path string) ([]byte, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var b []byte
	err = erofs.Walk(f, size, func(e erofs.File) error {
		if e.Path != strings.TrimPrefix(path, "/") {
			return nil
		}
		if e.Compressed || e.Size > maxContent {
			return fmt.Errorf("got %d bytes, compressed: %t; want at most %d, not compressed", e.Size, e.Compressed, maxContent)
		}
		for _, x := range e.Extents {
			part := make([]byte, min(x.Length, e.Size-int64(len(b))))
			if _, err := f.ReadAt(part, x.Offset); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			b = append(b, part...)
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return b, nil
	}
	if err == nil {
		err = os.ErrNotExist
	}
	return nil, fmt.Errorf("%s in image %s: %w", path, image, err)
}
