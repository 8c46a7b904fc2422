package mkfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options are what an image says of itself.
type Options struct {
	Time  time.Time // of nodes that have none, not before 1970
	UUID  [16]byte
	Label string // at most 16 bytes
}

func (o *Options) check() error {
	if s := o.Time.Unix(); s < 0 {
		return fmt.Errorf("time %s: want one from 1970 on", o.Time)
	}
	if len(o.Label) > 16 {
		return fmt.Errorf("label %.40q: want at most 16 bytes", o.Label)
	}
	return nil
}

// Write writes t as an image, front to back, and returns its size, a multiple of
// BlockSize. The tree must not change meanwhile; it can be written again afterwards.
func Write(ctx context.Context, w io.Writer, t *Tree, opt Options) (size int64, err error) {
	if err := opt.check(); err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	p, err := newPlan(ctx, t, opt)
	if err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	out := &output{w: bufio.NewWriterSize(w, 1<<20), plan: p}
	if err := out.image(ctx); err != nil {
		return 0, fmt.Errorf("write erofs: %w", err)
	}
	return p.blocks * BlockSize, nil
}

// output writes a plan.
type output struct {
	w     *bufio.Writer
	plan  *plan
	at    int64
	first []byte // the first block, until it is full: it holds a checksum of itself
	zeros [BlockSize]byte
}

func (o *output) image(ctx context.Context) error {
	if err := o.pad(superOffset + superSize); err != nil {
		return err
	}
	for _, n := range o.plan.nodes {
		if err := o.inode(ctx, n); err != nil {
			return err
		}
	}
	if err := o.pad(blocks(o.at) * BlockSize); err != nil {
		return err
	}
	for _, n := range o.plan.dirs {
		if err := o.body(n, n.encodeEntries()); err != nil {
			return err
		}
	}
	for _, n := range o.plan.files {
		if err := o.file(ctx, n); err != nil {
			return err
		}
	}
	return o.w.Flush()
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	taken := 0
	if room := BlockSize - int(min(o.at, BlockSize)); room > 0 {
		taken = min(room, len(b))
		o.first = append(o.first, b[:taken]...)
		if len(o.first) == BlockSize {
			o.plan.seal(o.first)
			if _, err := o.w.Write(o.first); err != nil {
				return 0, err
			}
			o.first = nil
		}
	}
	n, err := o.w.Write(b[taken:])
	o.at += int64(taken + n)
	return taken + n, err
}

// pad writes zeros up to offset to.
func (o *output) pad(to int64) error {
	for o.at < to {
		if _, err := o.Write(o.zeros[:min(to-o.at, BlockSize)]); err != nil {
			return err
		}
	}
	return nil
}

// inode writes n with its attributes, and its tail if that lies behind it.
func (o *output) inode(ctx context.Context, n *inode) error {
	if err := o.pad(n.at); err != nil {
		return err
	}
	if _, err := o.Write(n.encode()); err != nil {
		return err
	}
	if !n.inline {
		return nil
	}
	tail := n.size % BlockSize
	switch n.Mode & Kind {
	case Directory:
		_, err := o.Write(n.encodeEntries()[n.size-tail:])
		return err
	case Symlink:
		_, err := io.WriteString(o, n.Target)
		return err
	}
	return o.content(ctx, n)
}

// body writes the blocks of data that do not lie behind the inode.
func (o *output) body(n *inode, data []byte) error {
	if _, err := o.Write(data[:min(n.size, n.ownBlocks()*BlockSize)]); err != nil {
		return err
	}
	return o.pad(blocks(o.at) * BlockSize)
}

func (o *output) file(ctx context.Context, n *inode) error {
	if n.Mode&Kind == Symlink {
		return o.body(n, []byte(n.Target))
	}
	if err := o.content(ctx, n); err != nil {
		return err
	}
	return o.pad(blocks(o.at) * BlockSize)
}

// content copies the bytes of file n.
func (o *output) content(ctx context.Context, n *inode) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := n.Content.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if got, err := io.CopyN(o, r, n.size); err != nil {
		return fmt.Errorf("%s: got %d bytes, want %d: %w", n.path(), got, n.size, err)
	}
	if more, err := io.CopyN(io.Discard, r, 1); more > 0 {
		return fmt.Errorf("%s: got more than %d bytes", n.path(), n.size)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	return nil
}
