package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of what is believed of an image.
const (
	maxEntries   = 1 << 22 // of all directories
	maxDirectory = 1 << 28 // bytes of one
	maxPath      = 4096
	maxChunks    = 1 << 20 // of one file
)

// ErrFormat says that there is no such file system, or one that cannot be read.
var ErrFormat = errors.New("not a readable erofs image")

// Extent is a range of the image, in bytes.
type Extent struct{ Offset, Length int64 }

// File is a regular file.
type File struct {
	Path       string // from the root on, without a slash before
	Size       int64  // bytes
	Compressed bool   // then Extents is where mkfs.erofs puts it, in one piece
	Extents    []Extent
}

// Walk calls visit for each regular file of the image of size bytes in r, once for all
// its names, in the order of the directories. It stops at the first error.
func Walk(r io.ReaderAt, size int64, visit func(File) error) error {
	w := walker{r: r, size: size, seen: map[uint64]bool{}, visit: visit}
	if err := w.open(); err != nil {
		return fmt.Errorf("walk erofs: %w", err)
	}
	w.queue = []directory{{nid: w.super.rootNid}}
	w.seen[w.super.rootNid] = true
	for len(w.queue) > 0 {
		d := w.queue[len(w.queue)-1]
		w.queue = w.queue[:len(w.queue)-1]
		if err := w.directory(d); err != nil {
			return fmt.Errorf("walk erofs: directory %q: %w", d.path, err)
		}
	}
	return nil
}

type directory struct {
	nid  uint64
	path string
}

type walker struct {
	r       io.ReaderAt
	size    int64
	super   superblock
	block   int64 // bytes
	seen    map[uint64]bool
	queue   []directory
	entries int
	visit   func(File) error
}

func (w *walker) open() error {
	b, err := w.read(superOffset, superSize)
	if err != nil || binary.LittleEndian.Uint32(b) != magic {
		return ErrFormat
	}
	w.super.decode(b)
	s := w.super
	if s.blockBits < minBlockBits || s.blockBits > maxBlockBits || s.dirBlockLog != 0 ||
		s.incompat&(feature48Bit|featureMeta) != 0 {
		return ErrFormat
	}
	w.block = 1 << s.blockBits
	return nil
}

// read returns length bytes of the image, or an error if it does not have them.
func (w *walker) read(at, length int64) ([]byte, error) {
	if at < 0 || length < 0 || at > w.size || length > w.size-at {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", ErrFormat, length, at, w.size)
	}
	b := make([]byte, length)
	if n, err := w.r.ReadAt(b, at); n < len(b) {
		return nil, fmt.Errorf("read at %d: %w", at, err)
	}
	return b, nil
}

func (w *walker) inode(nid uint64) (inode, error) {
	if nid > uint64(w.size)/slotSize {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	at := int64(w.super.metaBlock)<<w.super.blockBits + int64(nid)*slotSize
	if at > w.size-compactSize {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	b, err := w.read(at, min(extendedSize, w.size-at))
	if err != nil {
		return inode{}, err
	}
	n, ok := decodeInode(b, at)
	if !ok || n.size > 1<<62 {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	return n, nil
}

// directory visits the files of d and queues its directories.
func (w *walker) directory(d directory) error {
	n, err := w.inode(d.nid)
	if err != nil {
		return err
	}
	if n.size > maxDirectory || n.mode&modeKind != modeDirectory {
		return fmt.Errorf("%w: inode %d", ErrFormat, d.nid)
	}
	extents, err := w.extents(n)
	if err != nil {
		return err
	}
	for _, e := range extents {
		for at := int64(0); at < e.Length; at += w.block {
			b, err := w.read(e.Offset+at, min(w.block, e.Length-at))
			if err != nil {
				return err
			}
			if err := w.dirents(d, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// dirents visits the entries of one block of d.
func (w *walker) dirents(d directory, b []byte) error {
	if len(b) < direntSize {
		return fmt.Errorf("%w: block of %d bytes", ErrFormat, len(b))
	}
	first := decodeDirent(b).nameAt
	if first < direntSize || first > len(b) || first%direntSize != 0 {
		return fmt.Errorf("%w: names at %d", ErrFormat, first)
	}
	for at := 0; at < first; at += direntSize {
		e, end := decodeDirent(b[at:]), len(b)
		if at+direntSize < first {
			end = decodeDirent(b[at+direntSize:]).nameAt
		}
		if w.entries++; w.entries > maxEntries || e.nameAt < first || e.nameAt > end || end > len(b) {
			return fmt.Errorf("%w: entry %d", ErrFormat, at/direntSize)
		}
		name, _, _ := strings.Cut(string(b[e.nameAt:end]), "\x00")
		if name == "." || name == ".." {
			continue
		}
		if name == "" || strings.Contains(name, "/") || len(d.path)+1+len(name) > maxPath {
			return fmt.Errorf("%w: name %q", ErrFormat, name)
		}
		if err := w.entry(e.nid, strings.TrimPrefix(d.path+"/"+name, "/")); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(nid uint64, path string) error {
	if w.seen[nid] {
		return nil
	}
	w.seen[nid] = true
	n, err := w.inode(nid)
	if err != nil {
		return err
	}
	switch n.mode & modeKind {
	case modeDirectory:
		w.queue = append(w.queue, directory{nid, path})
	case modeRegular:
		extents, err := w.extents(n)
		if err != nil {
			return err
		}
		compressed := n.layout == layoutCompressedFull || n.layout == layoutCompressedCompact
		return w.visit(File{path, int64(n.size), compressed, extents})
	}
	return nil
}
