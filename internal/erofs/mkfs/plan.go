package mkfs

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
)

// maxInline bounds, in bytes, a file or the last block of a directory that lies behind its
// inode. Longer ones would leave gaps between inodes as large as what they save.
const maxInline = BlockSize / 2

// place is where an inode and its data lie in the image of one plan.
type place struct {
	of      *plan
	at      int64 // of the inode, bytes from the image's start
	xattrs  []byte
	size    int64  // of its data
	long    bool   // an extended inode
	inline  bool   // the last, partial block lies behind the inode
	block   int64  // first block of the rest
	parent  *inode // by the first of its names
	name    string
	entries []entry // of a directory, as they are written
}

// plan is an image before it is written.
type plan struct {
	opt    Options
	nodes  []*inode // by place
	dirs   []*inode // those with blocks of their own, by place
	files  []*inode
	end    int64 // of the last inode, bytes from the image's start
	blocks int64 // of the image
}

// newPlan gives everything its place.
func newPlan(ctx context.Context, t *Tree, opt Options) (*plan, error) {
	p := &plan{opt: opt, end: superOffset + superSize}
	if err := p.gather(ctx, t.root, t.root, ""); err != nil {
		return nil, err
	}
	next := blocks(p.end)
	for _, list := range [][]*inode{p.dirs, p.files} {
		for _, n := range list {
			n.block, next = next, next+n.ownBlocks()
		}
	}
	if next >= 1<<32-1 {
		return nil, fmt.Errorf("got %d blocks of %d bytes, want fewer than 2^32-1", next, BlockSize)
	}
	p.blocks = next
	return p, nil
}

// gather places n and all below it, each inode once.
func (p *plan) gather(ctx context.Context, n, parent *inode, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.place = place{of: p, parent: parent, name: name}
	names := slices.Sorted(maps.Keys(n.children))
	if err := p.put(n, names); err != nil {
		return err
	}
	for _, name := range names {
		child := n.children[name]
		if child.of == p {
			continue // another of its names comes before this one
		}
		if err := p.gather(ctx, child, n, name); err != nil {
			return err
		}
	}
	return nil
}

// put places n behind the inode before it.
func (p *plan) put(n *inode, names []string) (err error) {
	if n.xattrs, err = n.encodeXattrs(); err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	switch n.Mode & Kind {
	case Regular:
		n.size = n.Size
	case Symlink:
		n.size = int64(len(n.Target))
	case Directory:
		n.entries, n.size = layEntries(names)
	}
	n.long = !n.Time.IsZero() && !n.Time.Equal(p.opt.Time) || n.UID > 1<<16-1 || n.GID > 1<<16-1 || n.nlink() > 1<<16-1 || n.size > 1<<32-1
	length, tail := n.length(), n.size%BlockSize
	n.inline = tail > 0 && tail <= maxInline && length+tail <= BlockSize && (n.size == tail || n.Mode&Kind != Regular)
	if n.inline {
		length += tail
	}
	n.at = (p.end + slotSize - 1) / slotSize * slotSize
	// A reader takes inode and tail from one block.
	if left := BlockSize - n.at%BlockSize; length > left && length <= BlockSize {
		n.at += left
	}
	p.end = n.at + length
	p.nodes = append(p.nodes, n)
	switch {
	case n.ownBlocks() == 0:
	case n.IsDir():
		p.dirs = append(p.dirs, n)
	default:
		p.files = append(p.files, n)
	}
	return nil
}

// length is that of the inode with its attributes.
func (n *inode) length() int64 {
	if n.long {
		return extendedSize + int64(len(n.xattrs))
	}
	return compactSize + int64(len(n.xattrs))
}

// ownBlocks is how many blocks the data takes that is not behind the inode.
func (n *inode) ownBlocks() int64 {
	if n.inline {
		return n.size / BlockSize
	}
	return blocks(n.size)
}

// nlink is the number of links, those of a directory counted as Unix does.
func (n *inode) nlink() int {
	if !n.IsDir() {
		return n.links
	}
	count := 2
	for _, c := range n.children {
		if c.IsDir() {
			count++
		}
	}
	return count
}

// path is where n stands in the tree.
func (n *inode) path() string {
	if n.parent == n {
		return n.name
	}
	return path.Join(n.parent.path(), n.name)
}

func (n *inode) nid() uint64 { return uint64(n.at / slotSize) }

func blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }
