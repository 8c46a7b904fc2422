package ext4

import "encoding/binary"

const (
	superOffset = 1024
	superSize   = 1024
	magic       = 0xef53

	rootInode       = 2
	inodeSize       = 128 // of the part that is read
	descriptorSize  = 32  // without the 64-bit feature
	descriptorSize6 = 64

	extentMagic = 0xf30a
	nodeSize    = 12 // of an extent, an index and their header
	mapSize     = 60 // of the root of an inode's blocks
	maxDepth    = 5
	unwritten   = 1 << 15
)

// Features that change where things lie.
const (
	featureMetaGroups = 1 << 4
	feature64Bit      = 1 << 7
	featureJournalDev = 1 << 3
)

// Flags of an inode.
const (
	flagEncrypted = 1 << 11
	flagExtents   = 1 << 19
	flagInline    = 1 << 28
)

const (
	modeKind      = 0xf000
	modeRegular   = 0x8000
	modeDirectory = 0x4000
)

// superblock is what is used of it.
type superblock struct {
	inodes         uint32
	blocks         uint64
	firstBlock     uint32
	blockBits      uint
	blocksInGroup  uint32
	inodesInGroup  uint32
	inodeSize      int64
	descriptorSize int64
	incompat       uint32
}

// decode reads b and reports whether it makes sense.
func (s *superblock) decode(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint16(b[56:]) != magic || le.Uint32(b[24:]) > 6 {
		return false
	}
	s.inodes = le.Uint32(b)
	s.blocks = uint64(le.Uint32(b[4:]))
	s.firstBlock = le.Uint32(b[20:])
	s.blockBits = 10 + uint(le.Uint32(b[24:]))
	s.blocksInGroup = le.Uint32(b[32:])
	s.inodesInGroup = le.Uint32(b[40:])
	s.inodeSize = inodeSize
	s.incompat = le.Uint32(b[96:])
	s.descriptorSize = descriptorSize
	if le.Uint32(b[76:]) > 0 { // revision
		s.inodeSize = int64(le.Uint16(b[88:]))
	}
	if s.incompat&feature64Bit != 0 {
		s.descriptorSize = int64(le.Uint16(b[254:]))
		s.blocks |= uint64(le.Uint32(b[336:])) << 32
		if s.descriptorSize < descriptorSize6 {
			return false
		}
	}
	return s.inodeSize >= inodeSize && s.inodesInGroup > 0 && s.blocksInGroup > 0 &&
		s.incompat&(featureMetaGroups|featureJournalDev) == 0
}

// inode is what is used of one.
type inode struct {
	mode  uint16
	flags uint32
	size  uint64
	root  [mapSize]byte // of its blocks
}

func decodeInode(b []byte) (n inode) {
	le := binary.LittleEndian
	n.mode, n.flags = le.Uint16(b), le.Uint32(b[32:])
	n.size = uint64(le.Uint32(b[4:])) | uint64(le.Uint32(b[108:]))<<32
	copy(n.root[:], b[40:])
	return n
}
