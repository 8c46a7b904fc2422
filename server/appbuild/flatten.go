package appbuild

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/twinkeel/twinkeel/internal/erofs/mkfs"
)

// Limits bound what is read from a container image.
type Limits struct {
	Files int   // entries of all layers
	Bytes int64 // of all layers, uncompressed
}

// DefaultLimits are far above what applications hold, and far below what hurts.
func DefaultLimits() Limits { return Limits{Files: 500_000, Bytes: 16 << 30} }

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"

	maxLayers = 512
	maxID     = 1<<16 - 1 // of users: hosts give an application so many
)

// flattener puts layers on top of each other.
type flattener struct {
	tree   *mkfs.Tree
	spool  *os.File
	at     int64 // end of the spool
	limits Limits
	files  int
	notes  notes
}

// section is the content of a file in the spool.
type section struct {
	spool    *os.File
	at, size int64
}

// Open implements mkfs.Content.
func (s section) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.spool, s.at, s.size)), nil
}

// flatten returns the tree that the layers of c make, and what was left out of it.
func flatten(ctx context.Context, c *container, spool *os.File, limits Limits) (*mkfs.Tree, []string, error) {
	tree, err := mkfs.NewTree(mkfs.Node{Mode: mkfs.Directory | 0o755})
	if err != nil {
		return nil, nil, err
	}
	f := &flattener{tree: tree, spool: spool, limits: limits}
	layers, err := c.image.Layers()
	if err != nil {
		return nil, nil, err
	}
	if len(layers) == 0 || len(layers) > maxLayers {
		return nil, nil, fmt.Errorf("got %d layers, want 1 to %d", len(layers), maxLayers)
	}
	for i, l := range layers {
		if err := f.layer(ctx, l, c.config.RootFS.DiffIDs[i]); err != nil {
			return nil, nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return tree, f.notes.list(), nil
}

// layer spools a layer, then reads it twice: what it takes away are things of the layers
// below, wherever in the layer that is said.
func (f *flattener) layer(ctx context.Context, l v1.Layer, want v1.Hash) (err error) {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	start, hash := f.at, sha256.New()
	left := f.limits.Bytes - start
	if _, err := f.spool.Seek(start, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(f.spool, hash), &stoppable{ctx, io.LimitReader(r, left+1)})
	if err != nil {
		return err
	}
	if n > left {
		return fmt.Errorf("the layers hold more than %d bytes: raise the limit if that is meant", f.limits.Bytes)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("its content is not what the configuration says: got sha256:%s, want %s", got, want)
	}
	f.at += n
	count, err := f.entries(ctx, start, n, f.remove)
	if err != nil {
		return err
	}
	seen := map[string]byte{}
	_, err = f.entries(ctx, start, n, func(name string, h *tar.Header, at int64) error {
		if strings.HasPrefix(path.Base(name), whiteout) {
			return nil
		}
		// Tools disagree on which of two files of one name counts; directories only say
		// their attributes twice.
		if kind, twice := seen[name]; twice && (kind != tar.TypeDir || h.Typeflag != tar.TypeDir) {
			return errors.New("it stands twice in the layer")
		}
		seen[name] = h.Typeflag
		return f.add(name, h, at)
	})
	f.files += count
	return err
}

// entries calls visit for each entry of the layer of size bytes in the spool, and returns
// how many there are.
func (f *flattener) entries(ctx context.Context, start, size int64, visit func(name string, h *tar.Header, at int64) error) (count int, err error) {
	// What reads plainly is read block by block, so that its place is that of the data.
	place := &counter{r: io.NewSectionReader(f.spool, start, size)}
	t := tar.NewReader(place)
	for ; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return count, err
		}
		if f.files+count >= f.limits.Files {
			return count, f.tooMany()
		}
		name, err := entryName(h.Name)
		if err == nil {
			err = visit(name, h, start+place.n)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return count, fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

func (f *flattener) tooMany() error {
	return fmt.Errorf("the layers hold more than %d files: raise the limit if that is meant", f.limits.Files)
}

// entryName returns the path that an entry is for, "" for the root.
func entryName(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", errors.New("the name is absolute, want one below the image's root")
	}
	for e := range strings.SplitSeq(name, "/") {
		if e == ".." {
			return "", errors.New("the name leads out of the image")
		}
	}
	if name = path.Clean(name); name == "." {
		name = ""
	}
	return name, nil
}

// remove carries out a whiteout.
func (f *flattener) remove(name string, _ *tar.Header, _ int64) error {
	base := path.Base(name)
	if !strings.HasPrefix(base, whiteout) {
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteout)
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("the whiteout names nothing")
	}
	dir, err := resolve(f.tree, parentOf(name))
	if errors.Is(err, errAbsent) {
		f.notes.add("a whiteout hides nothing", name)
		return nil
	}
	if err != nil {
		return err
	}
	if base == opaque {
		for _, child := range f.tree.Names(dir) {
			f.tree.Remove(path.Join(dir, child))
		}
		return nil
	}
	if !f.tree.Remove(path.Join(dir, hidden)) {
		f.notes.add("a whiteout hides nothing", name)
	}
	return nil
}

// add puts an entry into the tree.
func (f *flattener) add(name string, h *tar.Header, at int64) error {
	dir, err := f.directory(parentOf(name))
	if err != nil {
		return err
	}
	if name != "" {
		name = path.Join(dir, path.Base(name))
	}
	if h.Typeflag == tar.TypeLink {
		return f.link(name, h.Linkname)
	}
	n, err := f.node(name, h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n.Mode, n.Size = n.Mode|mkfs.Regular, h.Size
		n.Content = section{f.spool, at, h.Size}
	case tar.TypeDir:
		n.Mode |= mkfs.Directory
	case tar.TypeSymlink:
		n.Mode, n.Target = n.Mode|mkfs.Symlink, h.Linkname
	case tar.TypeFifo:
		n.Mode |= mkfs.Fifo
	case tar.TypeChar, tar.TypeBlock:
		if !strings.HasPrefix(name, "dev/") {
			return errors.New("a device node: an application gets devices by permission only")
		}
		f.notes.add("device nodes are left out: hosts bring their own", name)
		return nil
	default:
		return fmt.Errorf("got an entry of kind %q, which no container image holds", h.Typeflag)
	}
	return f.tree.Add(name, n)
}

// node returns what all kinds of entries have in common.
func (f *flattener) node(name string, h *tar.Header) (mkfs.Node, error) {
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		return mkfs.Node{}, fmt.Errorf("owner: got %d:%d, want at most %d", h.Uid, h.Gid, maxID)
	}
	n := mkfs.Node{Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid)}
	// Whole seconds, and none that the file system cannot say: layers that lack them are
	// made by tools that mean none.
	if s := h.ModTime.Unix(); s > 0 {
		n.Time = h.ModTime.Truncate(1e9)
	}
	if n.Mode&0o6000 != 0 && h.Typeflag != tar.TypeDir {
		n.Mode &^= 0o6000
		f.notes.add("set-user-id and set-group-id bits are dropped: they do nothing on a host", name)
	}
	for key, value := range h.PAXRecords {
		attribute, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		switch {
		case strings.HasPrefix(key, "GNU.sparse."):
			return n, errors.New("a sparse file: container images hold whole ones")
		case !ok:
		case strings.HasPrefix(attribute, "user."):
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[attribute] = value
		default:
			f.notes.add("attribute "+attribute+" is dropped: it does nothing on a host", name)
		}
	}
	return n, nil
}

func (f *flattener) link(name, target string) error {
	to, err := entryName(target)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", target, err)
	}
	dir, err := resolve(f.tree, parentOf(to))
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", target, err)
	}
	if to = path.Join(dir, path.Base(to)); to == name {
		return errors.New("a hard link to itself")
	}
	return f.tree.Link(name, to)
}

// directory returns where a directory really is, after making what is missing of it.
func (f *flattener) directory(name string) (string, error) {
	at, err := resolve(f.tree, name)
	if !errors.Is(err, errAbsent) {
		return at, err
	}
	parent, err := f.directory(parentOf(name))
	if err != nil {
		return "", err
	}
	at = path.Join(parent, path.Base(name))
	if _, there := f.tree.Lookup(at); there {
		return "", errors.New("a link on the way to it leads to nothing")
	}
	if f.files++; f.files >= f.limits.Files {
		return "", f.tooMany()
	}
	return at, f.tree.Add(at, mkfs.Node{Mode: mkfs.Directory | 0o755})
}

// stoppable ends with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}

// counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
