package mkfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// The kinds of nodes in Mode, as stat(2) has them.
const (
	Kind      = 0o170000 // mask
	Socket    = 0o140000
	Symlink   = 0o120000
	Regular   = 0o100000
	Block     = 0o060000
	Directory = 0o040000
	Character = 0o020000
	Fifo      = 0o010000
)

// What the file system or Linux sets as a limit.
const (
	maxName   = 255
	maxTarget = 4095
	maxXattrs = 64 << 10 // bytes of one node's
	maxFile   = 1 << 43
)

// Content is where the bytes of a regular file come from; Write opens it once.
type Content interface {
	Open() (io.ReadCloser, error)
}

// Bytes is content held in memory.
type Bytes string

// Open implements Content.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(b))), nil }

// Node is what an inode says.
type Node struct {
	Mode     uint32 // kind and permissions
	UID, GID uint32
	Time     time.Time // of modification; zero: that of the image
	Size     int64     // bytes of a regular file
	Content  Content   // of a regular file; nil if it is empty
	Target   string    // of a symbolic link
	Major    uint32    // of a device
	Minor    uint32
	Xattrs   map[string]string // full names, such as security.capability
}

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.Mode&Kind == Directory }

// Tree holds nodes by path. It is not safe for concurrent use.
type Tree struct {
	root  *inode
	names int
}

// inode is a node in a tree, under one name or several.
type inode struct {
	Node
	children map[string]*inode // of a directory
	links    int               // names that lead to it
	place
}

// NewTree returns a tree of a root directory alone.
func NewTree(root Node) (*Tree, error) {
	if err := root.check(); err != nil {
		return nil, fmt.Errorf("tree: root: %w", err)
	}
	if !root.IsDir() {
		return nil, fmt.Errorf("tree: root: got mode %o, want a directory", root.Mode)
	}
	return &Tree{root: newInode(root), names: 1}, nil
}

func newInode(n Node) *inode {
	i := &inode{Node: n}
	if n.IsDir() {
		i.children = map[string]*inode{}
	}
	return i
}

// Len is the number of names in the tree, the root's among them.
func (t *Tree) Len() int { return t.names }

// Add puts n at a path. What was there goes, with all below it; but where both are
// directories, only what the inode says is taken over.
func (t *Tree) Add(name string, n Node) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("add %q: %w", name, err)
	}
	if name == "" && n.IsDir() {
		t.root.Node = n
		return nil
	}
	parent, base, err := t.parent(name)
	if err != nil {
		return fmt.Errorf("add %q: %w", name, err)
	}
	if old := parent.children[base]; old != nil && old.IsDir() && n.IsDir() {
		old.Node = n
		return nil
	}
	t.put(parent, base, newInode(n))
	return nil
}

// Link gives the node at path old another name. Directories have one name only.
func (t *Tree) Link(name, old string) error {
	n := t.find(old)
	if n == nil {
		return fmt.Errorf("link %q to %q: %w", name, old, fs.ErrNotExist)
	}
	if n.IsDir() {
		return fmt.Errorf("link %q to %q: it is a directory", name, old)
	}
	parent, base, err := t.parent(name)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", name, old, err)
	}
	if parent.children[base] != n {
		t.put(parent, base, n)
	}
	return nil
}

func (t *Tree) put(parent *inode, base string, n *inode) {
	t.drop(parent, base)
	parent.children[base] = n
	n.links++
	t.names++
}

// drop takes away the entry base of parent.
func (t *Tree) drop(parent *inode, base string) {
	if old := parent.children[base]; old != nil {
		for name := range old.children {
			t.drop(old, name)
		}
		old.links--
		t.names--
		delete(parent.children, base)
	}
}

// Remove takes away what is at a path with all below it, and reports whether anything was.
func (t *Tree) Remove(name string) bool {
	parent, base, err := t.parent(name)
	if err != nil || parent.children[base] == nil {
		return false
	}
	t.drop(parent, base)
	return true
}

// Lookup returns the node at a path, without following links.
func (t *Tree) Lookup(name string) (Node, bool) {
	if n := t.find(name); n != nil {
		return n.Node, true
	}
	return Node{}, false
}

// Names returns what is in the directory at a path, sorted.
func (t *Tree) Names(dir string) []string {
	if n := t.find(dir); n != nil {
		return slices.Sorted(maps.Keys(n.children))
	}
	return nil
}

func (t *Tree) find(name string) *inode {
	if name == "" {
		return t.root
	}
	parent, base, err := t.parent(name)
	if err != nil {
		return nil
	}
	return parent.children[base]
}

// parent returns the directory that holds or would hold the entry at a path.
func (t *Tree) parent(name string) (dir *inode, base string, err error) {
	if name == "" || path.Clean(name) != name || name[0] == '/' || strings.ContainsRune(name, 0) {
		return nil, "", errors.New("want a relative path that is clean")
	}
	dir, base = t.root, name
	for {
		first, rest, more := strings.Cut(base, "/")
		if first == "." || first == ".." || len(first) > maxName {
			return nil, "", fmt.Errorf("name %.40q: want at most %d bytes, and neither . nor .. as a name", first, maxName)
		}
		if !more {
			return dir, first, nil
		}
		next := dir.children[first]
		if next == nil {
			return nil, "", fmt.Errorf("its parent %w", fs.ErrNotExist)
		}
		if !next.IsDir() {
			return nil, "", fmt.Errorf("%q on the way to it is not a directory", first)
		}
		dir, base = next, rest
	}
}

// check refuses what no inode can say.
func (n *Node) check() error {
	switch n.Mode & Kind {
	case Regular:
		if n.Size < 0 || n.Size > maxFile || n.Size > 0 && n.Content == nil {
			return fmt.Errorf("size: got %d, want 0 to %d, and content unless it is 0", n.Size, int64(maxFile))
		}
	case Symlink:
		if n.Target == "" || len(n.Target) > maxTarget || strings.ContainsRune(n.Target, 0) {
			return fmt.Errorf("target: got %d bytes, want 1 to %d without a zero byte", len(n.Target), maxTarget)
		}
	case Block, Character:
		if n.Major >= 1<<12 || n.Minor >= 1<<20 {
			return fmt.Errorf("device %d:%d: want at most %d:%d", n.Major, n.Minor, 1<<12-1, 1<<20-1)
		}
	case Directory, Fifo, Socket:
	default:
		return fmt.Errorf("mode %o: unknown kind", n.Mode)
	}
	if n.Mode>>16 != 0 {
		return fmt.Errorf("mode %o: want 16 bits", n.Mode)
	}
	if s := n.Time.Unix(); !n.Time.IsZero() && s < 0 {
		return fmt.Errorf("time %s: want none before 1970", n.Time)
	}
	_, err := n.encodeXattrs()
	return err
}
