package erofs

import "encoding/binary"

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xe0f5e1e2

	slotSize     = 32 // bytes that a nid counts
	compactSize  = 32 // of an inode
	extendedSize = 64
	direntSize   = 12

	minBlockBits = 9
	maxBlockBits = 16
	noBlock      = 1<<32 - 1
)

// Layouts of a file's data, in an inode's format.
const (
	layoutPlain             = 0
	layoutCompressedFull    = 1
	layoutInline            = 2 // plain, the tail behind the inode
	layoutCompressedCompact = 3
	layoutChunks            = 4
)

// The kinds of files in a mode.
const (
	modeKind      = 0xf000
	modeRegular   = 0x8000
	modeDirectory = 0x4000
)

// Features that change where things lie, of those that a reader must know.
const (
	featureChunks = 1 << 2
	feature48Bit  = 1 << 7
	featureMeta   = 1 << 8 // metadata in a file of its own
)

// superblock is what is used of it.
type superblock struct {
	blockBits   uint
	rootNid     uint64
	blocks      uint64
	metaBlock   uint64
	incompat    uint32
	dirBlockLog uint
}

func (s *superblock) decode(b []byte) {
	le := binary.LittleEndian
	s.blockBits = uint(b[12])
	s.rootNid = uint64(le.Uint16(b[14:]))
	s.blocks = uint64(le.Uint32(b[36:]))
	s.metaBlock = uint64(le.Uint32(b[40:]))
	s.incompat = le.Uint32(b[80:])
	s.dirBlockLog = uint(b[90])
}

// inode is one of either version.
type inode struct {
	at     int64 // in the image
	length int64 // of it, with extended attributes
	layout int
	mode   uint16
	links  uint32
	size   uint64
	data   uint32 // first block, number of compressed blocks or format of chunks
}

// decodeInode reads what b, of extendedSize bytes unless the image ends, begins with.
func decodeInode(b []byte, at int64) (n inode, ok bool) {
	le := binary.LittleEndian
	if len(b) < compactSize {
		return n, false
	}
	format := le.Uint16(b)
	n = inode{at: at, length: compactSize, layout: int(format >> 1 & 7), mode: le.Uint16(b[4:]), data: le.Uint32(b[16:])}
	if format&1 == 0 {
		n.links, n.size = uint32(le.Uint16(b[6:])), uint64(le.Uint32(b[8:]))
	} else {
		if len(b) < extendedSize {
			return n, false
		}
		n.length, n.links, n.size = extendedSize, le.Uint32(b[44:]), le.Uint64(b[8:])
	}
	if attributes := int64(le.Uint16(b[2:])); attributes > 0 {
		n.length += 12 + 4*(attributes-1)
	}
	return n, true
}

// dirent is an entry of a directory's block; its name lies in the same block.
type dirent struct {
	nid    uint64
	nameAt int
}

func decodeDirent(b []byte) dirent {
	return dirent{binary.LittleEndian.Uint64(b), int(binary.LittleEndian.Uint16(b[8:]))}
}
