package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twinkeel/twinkeel/internal/filetree"
)

// maxChunks is how many chunks of one file are believed.
const maxChunks = 1 << 20

// ErrFormat says that there is no such file system, or one that cannot be read.
var ErrFormat = errors.New("not a readable erofs image")

// Extent is a range of the image, in bytes.
type Extent = filetree.Extent

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
	w := walker{Image: filetree.Image{From: r, Size: size, Format: ErrFormat}, visit: visit}
	err := w.open()
	if err == nil {
		w.tree = filetree.NewTree(w.super.rootNid, ErrFormat)
		err = w.tree.Walk(w.directory)
	}
	if err != nil {
		return fmt.Errorf("walk erofs: %w", err)
	}
	return nil
}

type walker struct {
	filetree.Image
	tree  *filetree.Tree[uint64]
	super superblock
	block int64 // bytes
	visit func(File) error
}

func (w *walker) open() error {
	b, err := w.Read(superOffset, superSize)
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

func (w *walker) inode(nid uint64) (inode, error) {
	if nid > uint64(w.Size)/slotSize {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	at := int64(w.super.metaBlock)<<w.super.blockBits + int64(nid)*slotSize
	if at > w.Size-compactSize {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	b, err := w.Read(at, min(extendedSize, w.Size-at))
	if err != nil {
		return inode{}, err
	}
	n, ok := decodeInode(b, at)
	if !ok || n.size > 1<<62 {
		return inode{}, fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	return n, nil
}

// directory visits the files of a directory and adds its directories.
func (w *walker) directory(nid uint64, path string) error {
	n, err := w.inode(nid)
	if err != nil {
		return err
	}
	if n.size > filetree.MaxDirectory || n.mode&modeKind != modeDirectory {
		return fmt.Errorf("%w: inode %d", ErrFormat, nid)
	}
	extents, err := w.extents(n)
	if err != nil {
		return err
	}
	return w.Blocks(extents, w.block, func(b []byte) error { return w.dirents(path, b) })
}

// dirents visits the entries of one block of a directory.
func (w *walker) dirents(dir string, b []byte) error {
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
		if e.nameAt < first || e.nameAt > end || end > len(b) {
			return fmt.Errorf("%w: entry %d", ErrFormat, at/direntSize)
		}
		if err := w.tree.Count(); err != nil {
			return err
		}
		name, _, _ := strings.Cut(string(b[e.nameAt:end]), "\x00")
		path, fresh, err := w.tree.Enter(dir, name, e.nid)
		if err == nil && fresh {
			err = w.entry(e.nid, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(nid uint64, path string) error {
	n, err := w.inode(nid)
	if err != nil {
		return err
	}
	switch n.mode & modeKind {
	case modeDirectory:
		w.tree.Push(nid, path)
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
