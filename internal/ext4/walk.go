package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/internal/filetree"
)

// Limits of what is believed of an image.
const (
	maxExtents = 1 << 18 // of one file
	maxNodes   = 1 << 22 // blocks of extents or block numbers, of all files
)

// ErrFormat says that there is no such file system, or one that cannot be read.
var ErrFormat = errors.New("not a readable ext4 image")

// Extent is a range of the image, in bytes.
type Extent = filetree.Extent

// File is a regular file.
type File struct {
	Path    string // from the root on, without a slash before
	Size    int64  // bytes
	Extents []Extent
}

// Walk calls visit for each regular file of the image of size bytes in r, once for all
// its names, in the order of the directories. It stops at the first error.
func Walk(r io.ReaderAt, size int64, visit func(File) error) error {
	w := walker{Image: filetree.Image{From: r, Size: size, Format: ErrFormat}, tree: filetree.NewTree[uint32](rootInode, ErrFormat), visit: visit}
	b, err := w.Read(superOffset, superSize)
	if err != nil || !w.super.decode(b) {
		return fmt.Errorf("walk ext4: %w", ErrFormat)
	}
	w.block = 1 << w.super.blockBits
	if err := w.tree.Walk(w.directory); err != nil {
		return fmt.Errorf("walk ext4: %w", err)
	}
	return nil
}

type walker struct {
	filetree.Image
	tree  *filetree.Tree[uint32]
	super superblock
	block int64 // bytes
	nodes int
	visit func(File) error
}

// address returns where a block begins, or an offset that is in no image.
func (w *walker) address(block uint64) int64 {
	if block > uint64(w.Size)>>w.super.blockBits {
		return -1
	}
	return int64(block) << w.super.blockBits
}

func (w *walker) inode(number uint32) (inode, error) {
	s := w.super
	if number == 0 || number > s.inodes {
		return inode{}, fmt.Errorf("%w: inode %d of %d", ErrFormat, number, s.inodes)
	}
	group, index := int64((number-1)/s.inodesInGroup), int64((number-1)%s.inodesInGroup)
	at := w.address(uint64(s.firstBlock) + 1)
	if at < 0 {
		return inode{}, fmt.Errorf("%w: first block %d", ErrFormat, s.firstBlock)
	}
	d, err := w.Read(at+group*s.descriptorSize, s.descriptorSize)
	if err != nil {
		return inode{}, err
	}
	table := uint64(binary.LittleEndian.Uint32(d[8:]))
	if s.incompat&feature64Bit != 0 {
		table |= uint64(binary.LittleEndian.Uint32(d[40:])) << 32
	}
	if at = w.address(table); at < 0 {
		return inode{}, fmt.Errorf("%w: inode table at block %d", ErrFormat, table)
	}
	b, err := w.Read(at+index*s.inodeSize, inodeSize)
	if err != nil {
		return inode{}, err
	}
	n := decodeInode(b)
	if n.size > 1<<62 {
		return inode{}, fmt.Errorf("%w: inode %d: size %d", ErrFormat, number, n.size)
	}
	return n, nil
}

// directory visits the files of a directory and adds its directories. The index of a
// large one looks like blocks with one unused entry.
func (w *walker) directory(number uint32, path string) error {
	n, err := w.inode(number)
	if err != nil {
		return err
	}
	if n.size > filetree.MaxDirectory || n.mode&modeKind != modeDirectory {
		return fmt.Errorf("%w: inode %d", ErrFormat, number)
	}
	if n.flags&(flagInline|flagEncrypted) != 0 {
		return nil
	}
	extents, err := w.extents(n)
	if err != nil {
		return err
	}
	return w.Blocks(extents, w.block, func(b []byte) error { return w.dirents(path, b) })
}

// dirents visits the entries of one block of a directory.
func (w *walker) dirents(dir string, b []byte) error {
	for len(b) >= 8 {
		number := binary.LittleEndian.Uint32(b)
		length, name := int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
		if length == 0 && len(b) == 1<<16 {
			length = len(b)
		}
		if length < 8 || length > len(b) || 8+name > length {
			return fmt.Errorf("%w: entry of %d bytes", ErrFormat, length)
		}
		if err := w.tree.Count(); err != nil {
			return err
		}
		s := string(b[8 : 8+name])
		b = b[length:]
		if number == 0 {
			continue
		}
		path, fresh, err := w.tree.Enter(dir, s, number)
		if err == nil && fresh {
			err = w.entry(number, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(number uint32, path string) error {
	n, err := w.inode(number)
	if err != nil {
		return err
	}
	switch n.mode & modeKind {
	case modeDirectory:
		w.tree.Push(number, path)
	case modeRegular:
		if n.flags&(flagInline|flagEncrypted) != 0 {
			return nil
		}
		extents, err := w.extents(n)
		if err != nil {
			return err
		}
		return w.visit(File{path, int64(n.size), extents})
	}
	return nil
}
