package mkfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"
)

// BlockSize is that of every image, in bytes.
const BlockSize = 4096

const (
	superOffset = 1024
	superSize   = 128
	magic       = 0xe0f5e1e2
	slotSize    = 32 // bytes that an inode's number counts

	compactSize  = 32 // of an inode
	extendedSize = 64
	direntSize   = 12

	featureChecksum = 1 << 0
	featureTimes    = 1 << 1

	layoutPlain  = 0
	layoutInline = 2
)

// castagnoli is the polynomial of the superblock's checksum.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal writes the superblock into the image's first block, b.
func (p *plan) seal(b []byte) {
	le, s := binary.LittleEndian, b[superOffset:]
	le.PutUint32(s, magic)
	le.PutUint32(s[8:], featureChecksum|featureTimes)
	s[12] = 12 // BlockSize, as a power of two
	le.PutUint16(s[14:], uint16(p.nodes[0].nid()))
	le.PutUint64(s[16:], uint64(len(p.nodes)))
	le.PutUint64(s[24:], uint64(p.opt.Time.Unix()))
	le.PutUint32(s[32:], uint32(p.opt.Time.Nanosecond()))
	le.PutUint32(s[36:], uint32(p.blocks))
	copy(s[48:64], p.opt.UUID[:])
	copy(s[64:80], p.opt.Label)
	// Over the rest of the block, this field as zero, and without the usual last inversion.
	le.PutUint32(s[4:], ^crc32.Checksum(s, castagnoli))
}

// encode returns the inode of n with its attributes.
func (n *inode) encode() []byte {
	le, b := binary.LittleEndian, make([]byte, n.length())
	format, icount := uint16(layoutPlain<<1), uint16(0)
	if n.inline {
		format = layoutInline << 1
	}
	if len(n.xattrs) > 0 {
		icount = uint16((len(n.xattrs)-xattrHeader)/4 + 1)
	}
	where := uint32(n.block)
	switch n.Mode & Kind {
	case Block, Character:
		where = n.Minor&0xff | n.Major<<8 | n.Minor&^0xff<<12
	}
	le.PutUint16(b[2:], icount)
	le.PutUint16(b[4:], uint16(n.Mode))
	le.PutUint32(b[16:], where)
	if !n.long {
		le.PutUint16(b, format)
		le.PutUint16(b[6:], uint16(n.nlink()))
		le.PutUint32(b[8:], uint32(n.size))
		le.PutUint16(b[24:], uint16(n.UID))
		le.PutUint16(b[26:], uint16(n.GID))
		copy(b[compactSize:], n.xattrs)
		return b
	}
	t := n.Time
	if t.IsZero() {
		t = n.of.opt.Time
	}
	le.PutUint16(b, format|1)
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[24:], n.UID)
	le.PutUint32(b[28:], n.GID)
	le.PutUint64(b[32:], uint64(t.Unix()))
	le.PutUint32(b[40:], uint32(t.Nanosecond()))
	le.PutUint32(b[44:], uint32(n.nlink()))
	copy(b[extendedSize:], n.xattrs)
	return b
}

// entry is one of a directory, at a place of its data.
type entry struct {
	name   string
	block  int // of the directory's data
	first  int // the entry of that block, 0 for the first
	nameAt int // in the block
}

// layEntries distributes names, sorted, and the two that every directory has over blocks:
// in each the entries, then the names. It returns them with the size of the data.
func layEntries(names []string) (list []entry, size int64) {
	all := append([]string{".", ".."}, names...)
	slices.Sort(all)
	list = make([]entry, 0, len(all))
	for block, from := 0, 0; from < len(all); block++ {
		to, used := from, 0
		for to < len(all) && used+direntSize+len(all[to]) <= BlockSize {
			used += direntSize + len(all[to])
			to++
		}
		at := (to - from) * direntSize
		for i, name := range all[from:to] {
			list = append(list, entry{name, block, i, at})
			at += len(name)
		}
		from, size = to, int64(block)*BlockSize+int64(used)
	}
	return list, size
}

// encodeEntries returns the data of directory n, once everything has its place.
func (n *inode) encodeEntries() []byte {
	b := make([]byte, n.size)
	for _, e := range n.entries {
		to := n.children[e.name]
		switch e.name {
		case ".":
			to = n
		case "..":
			to = n.parent
		}
		at := b[e.block*BlockSize:]
		d := at[e.first*direntSize:]
		binary.LittleEndian.PutUint64(d, to.nid())
		binary.LittleEndian.PutUint16(d[8:], uint16(e.nameAt))
		d[10] = kindOf(to.Mode)
		copy(at[e.nameAt:], e.name)
	}
	return b
}

// kindOf is a mode's kind as directories give it.
func kindOf(mode uint32) byte {
	switch mode & Kind {
	case Regular:
		return 1
	case Directory:
		return 2
	case Character:
		return 3
	case Block:
		return 4
	case Fifo:
		return 5
	case Socket:
		return 6
	}
	return 7 // a symbolic link
}

// xattrHeader is the size of what stands before the attributes of an inode.
const xattrHeader = 12

// space is one of the name spaces of attributes, and the number that stands for it.
type space struct {
	number byte
	prefix string
	whole  bool // it is a name, not the beginning of one
}

var spaces = []space{
	{2, "system.posix_acl_access", true}, {3, "system.posix_acl_default", true},
	{1, "user.", false}, {4, "trusted.", false}, {6, "security.", false},
}

// encodeXattrs returns the attributes of n with their header; nothing if there are none.
func (n *Node) encodeXattrs() ([]byte, error) {
	if len(n.Xattrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeader)
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		value := n.Xattrs[name]
		i := slices.IndexFunc(spaces, func(s space) bool { return strings.HasPrefix(name, s.prefix) })
		if i < 0 {
			return nil, fmt.Errorf("attribute %.40q: unknown name space", name)
		}
		rest := name[len(spaces[i].prefix):]
		if len(rest) > math.MaxUint8 || strings.ContainsRune(rest, 0) || (rest == "") != spaces[i].whole {
			return nil, fmt.Errorf("attribute %.40q: no name of an attribute", name)
		}
		if len(value) > math.MaxUint16 || len(b)+len(rest)+len(value) > maxXattrs {
			return nil, fmt.Errorf("attribute %.40q: got %d bytes, want at most %d of all", name, len(value), maxXattrs)
		}
		b = append(b, byte(len(rest)), spaces[i].number)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(append(b, rest...), value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b, nil
}
