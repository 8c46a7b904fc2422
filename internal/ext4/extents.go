package ext4

import (
	"encoding/binary"
	"fmt"
)

// extents returns where the data of n lies, front to back, without holes.
func (w *walker) extents(n inode) ([]Extent, error) {
	l := layout{walker: w, size: int64(n.size)}
	var err error
	if n.flags&flagExtents != 0 {
		err = l.tree(n.root[:], maxDepth)
	} else {
		err = l.numbers(n.root[:])
	}
	return l.list, err
}

// layout collects the extents of one file.
type layout struct {
	*walker
	size int64
	list []Extent
	next uint64 // the first block, of the file, that has not been passed
}

// add adds count blocks from the block of the image on, which are the file's from its
// block first on.
func (l *layout) add(first, block, count uint64) error {
	at := l.address(block)
	start := int64(first) << l.super.blockBits
	if first < l.next || at < 0 || count > uint64(l.walker.Size)>>l.super.blockBits {
		return fmt.Errorf("%w: %d blocks at %d", ErrFormat, count, block)
	}
	l.next = first + count
	length := min(int64(count)<<l.super.blockBits, l.size-start)
	if length <= 0 {
		return nil // reserved, behind the end
	}
	if length > l.walker.Size-at {
		return fmt.Errorf("%w: %d bytes at %d", ErrFormat, length, at)
	}
	if last := len(l.list) - 1; last >= 0 && l.list[last].Offset+l.list[last].Length == at {
		l.list[last].Length += length
		return nil
	}
	if len(l.list) == maxExtents {
		return fmt.Errorf("%w: more than %d extents", ErrFormat, maxExtents)
	}
	l.list = append(l.list, Extent{Offset: at, Length: length})
	return nil
}

// tree reads a node of extents and all below it, which is at most depth levels.
func (l *layout) tree(b []byte, depth int) error {
	le := binary.LittleEndian
	count, level := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if le.Uint16(b) != extentMagic || level > depth || (count+1)*nodeSize > len(b) {
		return fmt.Errorf("%w: node of %d extents at level %d", ErrFormat, count, level)
	}
	for i := 1; i <= count; i++ {
		e := b[i*nodeSize : (i+1)*nodeSize]
		if level == 0 {
			n := uint64(le.Uint16(e[4:]))
			if n > unwritten {
				l.next = uint64(le.Uint32(e)) + n - unwritten // reads as zero
				continue
			}
			if err := l.add(uint64(le.Uint32(e)), uint64(le.Uint32(e[8:]))|uint64(le.Uint16(e[6:]))<<32, n); err != nil {
				return err
			}
			continue
		}
		below, err := l.node(uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32)
		if err != nil {
			return err
		}
		if err := l.tree(below, level-1); err != nil {
			return err
		}
	}
	return nil
}

// node reads a block that says where others are.
func (l *layout) node(block uint64) ([]byte, error) {
	if l.nodes++; l.nodes > maxNodes {
		return nil, fmt.Errorf("%w: more than %d blocks of extents", ErrFormat, maxNodes)
	}
	return l.Read(l.address(block), l.block)
}

// numbers reads the block numbers of a file without extents: 12 blocks, then one block of
// numbers, one of blocks of numbers, and one more level.
func (l *layout) numbers(root []byte) error {
	at := uint64(0)
	for i := range 15 {
		level := max(0, i-11)
		if err := l.number(binary.LittleEndian.Uint32(root[4*i:]), level, &at); err != nil {
			return err
		}
	}
	return nil
}

// number adds the blocks below one number; at is the file's block they begin with.
func (l *layout) number(block uint32, level int, at *uint64) error {
	span := uint64(1) << (uint(level) * (l.super.blockBits - 2))
	if block == 0 || int64(*at)<<l.super.blockBits >= l.size {
		*at += span
		return nil
	}
	if level == 0 {
		*at++
		return l.add(*at-1, uint64(block), 1)
	}
	b, err := l.node(uint64(block))
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4 {
		if err := l.number(binary.LittleEndian.Uint32(b[i:]), level-1, at); err != nil {
			return err
		}
	}
	return nil
}
