package ext4

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
	maxExtents   = 1 << 18 // of one file
	maxNodes     = 1 << 22 // blocks of extents or block numbers, of all files
)

// ErrFormat says that there is no such file system, or one that cannot be read.
var ErrFormat = errors.New("not a readable ext4 image")

// Extent is a range of the image, in bytes.
type Extent struct{ Offset, Length int64 }

// File is a regular file.
type File struct {
	Path    string // from the root on, without a slash before
	Size    int64  // bytes
	Extents []Extent
}

// Walk calls visit for each regular file of the image of size bytes in r, once for all
// its names, in the order of the directories. It stops at the first error.
func Walk(r io.ReaderAt, size int64, visit func(File) error) error {
	w := walker{r: r, size: size, seen: map[uint32]bool{rootInode: true}, visit: visit}
	b, err := w.read(superOffset, superSize)
	if err != nil || !w.super.decode(b) {
		return fmt.Errorf("walk ext4: %w", ErrFormat)
	}
	w.block = 1 << w.super.blockBits
	w.queue = []directory{{number: rootInode}}
	for len(w.queue) > 0 {
		d := w.queue[len(w.queue)-1]
		w.queue = w.queue[:len(w.queue)-1]
		if err := w.directory(d); err != nil {
			return fmt.Errorf("walk ext4: directory %q: %w", d.path, err)
		}
	}
	return nil
}

type directory struct {
	number uint32
	path   string
}

type walker struct {
	r       io.ReaderAt
	size    int64
	super   superblock
	block   int64 // bytes
	seen    map[uint32]bool
	queue   []directory
	entries int
	nodes   int
	visit   func(File) error
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

// address returns where a block begins, or an offset that is in no image.
func (w *walker) address(block uint64) int64 {
	if block > uint64(w.size)>>w.super.blockBits {
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
	d, err := w.read(at+group*s.descriptorSize, s.descriptorSize)
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
	b, err := w.read(at+index*s.inodeSize, inodeSize)
	if err != nil {
		return inode{}, err
	}
	n := decodeInode(b)
	if n.size > 1<<62 {
		return inode{}, fmt.Errorf("%w: inode %d: size %d", ErrFormat, number, n.size)
	}
	return n, nil
}

// directory visits the files of d and queues its directories. The index of a large one
// looks like blocks with one unused entry.
func (w *walker) directory(d directory) error {
	n, err := w.inode(d.number)
	if err != nil {
		return err
	}
	if n.size > maxDirectory || n.mode&modeKind != modeDirectory {
		return fmt.Errorf("%w: inode %d", ErrFormat, d.number)
	}
	if n.flags&(flagInline|flagEncrypted) != 0 {
		return nil
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
	for len(b) >= 8 {
		number := binary.LittleEndian.Uint32(b)
		length, name := int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
		if length == 0 && len(b) == 1<<16 {
			length = len(b)
		}
		if length < 8 || length > len(b) || 8+name > length {
			return fmt.Errorf("%w: entry of %d bytes", ErrFormat, length)
		}
		if w.entries++; w.entries > maxEntries {
			return fmt.Errorf("%w: more than %d entries", ErrFormat, maxEntries)
		}
		s := string(b[8 : 8+name])
		b = b[length:]
		if number == 0 || s == "." || s == ".." {
			continue
		}
		if s == "" || strings.ContainsAny(s, "/\x00") || len(d.path)+1+len(s) > maxPath {
			return fmt.Errorf("%w: name %q", ErrFormat, s)
		}
		if err := w.entry(number, strings.TrimPrefix(d.path+"/"+s, "/")); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(number uint32, path string) error {
	if w.seen[number] {
		return nil
	}
	w.seen[number] = true
	n, err := w.inode(number)
	if err != nil {
		return err
	}
	switch n.mode & modeKind {
	case modeDirectory:
		w.queue = append(w.queue, directory{number, path})
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
