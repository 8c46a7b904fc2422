package erofs

import (
	"encoding/binary"
	"fmt"
)

// extents returns where the data of n lies, front to back, without holes.
func (w *walker) extents(n inode) ([]Extent, error) {
	if n.size == 0 {
		return nil, nil
	}
	var list []Extent
	var err error
	switch n.layout {
	case layoutPlain:
		list = []Extent{{Offset: w.address(uint64(n.data)), Length: int64(n.size)}}
	case layoutInline:
		tail := int64((n.size-1)%uint64(w.block)) + 1
		if whole := int64(n.size) - tail; whole > 0 {
			list = append(list, Extent{Offset: w.address(uint64(n.data)), Length: whole})
		}
		list = append(list, Extent{Offset: n.at + n.length, Length: tail})
	case layoutChunks:
		list, err = w.chunks(n)
	case layoutCompressedFull, layoutCompressedCompact:
		list, err = w.compressed(n)
	default:
		err = fmt.Errorf("%w: data layout %d", ErrFormat, n.layout)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.Offset < 0 || e.Length < 0 || e.Offset > w.Size || e.Length > w.Size-e.Offset {
			return nil, fmt.Errorf("%w: data of %d bytes at %d", ErrFormat, e.Length, e.Offset)
		}
	}
	return list, nil
}

func (w *walker) address(block uint64) int64 { return int64(block) << w.super.blockBits }

// Formats of chunks.
const (
	chunkBits    = 0x1f // of the number of blocks
	chunkIndexes = 0x20 // entries of 8 bytes that name a device, not of 4
)

// chunks returns the extents of a file of chunks that each lie anywhere.
func (w *walker) chunks(n inode) ([]Extent, error) {
	bits := w.super.blockBits + uint(n.data&chunkBits)
	entry := int64(4)
	if n.data&chunkIndexes != 0 {
		entry = 8
	}
	if n.data>>16 != 0 || n.data&^(chunkBits|chunkIndexes) != 0 || bits > 62 {
		return nil, fmt.Errorf("%w: chunk format %#x", ErrFormat, n.data)
	}
	size := int64(n.size)
	count := (size-1)>>bits + 1
	if count > maxChunks {
		return nil, fmt.Errorf("%w: %d chunks", ErrFormat, count)
	}
	table, err := w.Read((n.at+n.length+entry-1)/entry*entry, count*entry)
	if err != nil {
		return nil, err
	}
	var list []Extent
	for i := range count {
		b := table[i*entry:]
		if entry == 8 {
			if binary.LittleEndian.Uint16(b[2:]) != 0 {
				continue // on another device
			}
			b = b[4:]
		}
		block := binary.LittleEndian.Uint32(b)
		if block == noBlock {
			continue // a hole
		}
		e := Extent{Offset: w.address(uint64(block)), Length: min(int64(1)<<bits, size-i<<bits)}
		if last := len(list) - 1; last >= 0 && list[last].Offset+list[last].Length == e.Offset {
			list[last].Length += e.Length
		} else {
			list = append(list, e)
		}
	}
	return list, nil
}

// What a compressed file's map says.
const (
	mapHeader    = 8
	packed2Bytes = 1 << 0 // clusters take two bytes each where they can
	bigClusters  = 3 << 1
	wholeInTail  = 1 << 3 // the last compressed cluster lies behind the map
	inFragment   = 1 << 15
)

// compressed returns the extent that begins with the first compressed cluster of n and is
// as long as all of them: mkfs.erofs writes them in one piece.
func (w *walker) compressed(n inode) ([]Extent, error) {
	if n.data == 0 {
		return nil, nil // all of it is elsewhere
	}
	at := (n.at + n.length + 7) &^ 7
	header, err := w.Read(at, mapHeader)
	if err != nil {
		return nil, err
	}
	if header[7]&0x80 != 0 {
		return nil, nil // in a file of fragments
	}
	advice := binary.LittleEndian.Uint16(header[4:])
	at += mapHeader
	add := uint64(0)
	if n.layout == layoutCompressedFull {
		at += 8 + 4 // what older ones left free, then the first index from its address on
	} else {
		// A pack of 2 entries in 8 bytes or 16 in 32, the block before the first, or with
		// big clusters the first, at its end.
		clusterBits := w.super.blockBits + uint(header[7]&7)
		clusters := (n.size-1)>>clusterBits + 1
		pack := int64(8)
		if before := uint64(32-at%32) / 4 % 8; advice&packed2Bytes != 0 && before == 0 && clusters >= 16 {
			pack = 32
		}
		at += pack - 4
		if advice&bigClusters == 0 {
			add = 1
		}
	}
	b, err := w.Read(at, 4)
	if err != nil {
		return nil, err
	}
	first := uint64(binary.LittleEndian.Uint32(b)) + add
	return []Extent{{Offset: w.address(first), Length: w.address(uint64(n.data))}}, nil
}
