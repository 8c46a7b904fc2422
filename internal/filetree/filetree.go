package filetree

import (
	"fmt"
	"io"
	"strings"
)

// Limits of what is believed of an image.
const (
	MaxDirectory = 1 << 28 // bytes of one

	maxEntries = 1 << 22 // of all directories
	maxPath    = 4096
)

// Extent is a range of an image, in bytes.
type Extent struct{ Offset, Length int64 }

// Image is what is read.
type Image struct {
	From   io.ReaderAt
	Size   int64 // bytes
	Format error // in the chain of every error about what is in it
}

// Read returns length bytes of the image, or an error if it does not have them.
func (i Image) Read(at, length int64) ([]byte, error) {
	if at < 0 || length < 0 || at > i.Size || length > i.Size-at {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", i.Format, length, at, i.Size)
	}
	b := make([]byte, length)
	if n, err := i.From.ReadAt(b, at); n < len(b) {
		return nil, fmt.Errorf("read at %d: %w", at, err)
	}
	return b, nil
}

// Blocks calls visit for the content of extents, a block of size bytes or the rest of an
// extent at a time. It stops at the first error.
func (i Image) Blocks(extents []Extent, size int64, visit func([]byte) error) error {
	for _, e := range extents {
		for at := int64(0); at < e.Length; at += size {
			b, err := i.Read(e.Offset+at, min(size, e.Length-at))
			if err == nil {
				err = visit(b)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Tree is a walk over the directories of an image whose inodes are numbered by N.
type Tree[N comparable] struct {
	format  error
	seen    map[N]bool
	queue   []directory[N]
	entries int
}

type directory[N comparable] struct {
	node N
	path string
}

// NewTree returns a walk that begins at root. Its errors about names have format in their
// chain.
func NewTree[N comparable](root N, format error) *Tree[N] {
	return &Tree[N]{format: format, seen: map[N]bool{root: true}, queue: []directory[N]{{node: root}}}
}

// Walk calls visit for the root and for whatever Push adds meanwhile. Paths are from the
// root on, without a slash before. It stops at the first error.
func (t *Tree[N]) Walk(visit func(node N, path string) error) error {
	for len(t.queue) > 0 {
		d := t.queue[len(t.queue)-1]
		t.queue = t.queue[:len(t.queue)-1]
		if err := visit(d.node, d.path); err != nil {
			return fmt.Errorf("directory %q: %w", d.path, err)
		}
	}
	return nil
}

// Push adds a directory to those that are visited.
func (t *Tree[N]) Push(node N, path string) { t.queue = append(t.queue, directory[N]{node, path}) }

// Count notes one more entry of a directory, used or not.
func (t *Tree[N]) Count() error {
	if t.entries++; t.entries > maxEntries {
		return fmt.Errorf("%w: more than %d entries", t.format, maxEntries)
	}
	return nil
}

// Enter returns the path of an entry, and whether it is the first one that leads to node.
// A directory's own names lead to nothing new.
func (t *Tree[N]) Enter(dir, name string, node N) (path string, first bool, err error) {
	if name == "." || name == ".." {
		return "", false, nil
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || len(dir)+1+len(name) > maxPath {
		return "", false, fmt.Errorf("%w: name %q", t.format, name)
	}
	if t.seen[node] {
		return "", false, nil
	}
	t.seen[node] = true
	return strings.TrimPrefix(dir+"/"+name, "/"), true, nil
}
