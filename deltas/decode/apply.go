package decode

import (
	"context"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// Container is a container in storage.
type Container struct {
	Reader io.ReaderAt
	Size   int64 // bytes
}

// Head reads and parses the head, and makes sure that the container is as long as the
// head says.
func (c Container) Head() (*deltas.Head, error) {
	prefix := make([]byte, deltas.PrefixSize)
	if c.Size < deltas.PrefixSize {
		return nil, fmt.Errorf("container of %d bytes has no head", c.Size)
	}
	if err := readFull(c.Reader, prefix, 0); err != nil {
		return nil, err
	}
	n, err := deltas.HeadSize(prefix)
	if err != nil {
		return nil, err
	}
	if n > c.Size {
		return nil, fmt.Errorf("container: got %d bytes, want a head of %d", c.Size, n)
	}
	b := make([]byte, n)
	if err := readFull(c.Reader, b, 0); err != nil {
		return nil, err
	}
	h, err := deltas.ParseHead(b)
	if err == nil && h.Size() != c.Size {
		err = fmt.Errorf("container: got %d bytes, want %d", c.Size, h.Size())
	}
	return h, err
}

// Base is the source that a delta was made from, before padding.
type Base struct {
	Reader io.ReaderAt
	Size   int64 // bytes
}

// Apply writes to dst the source that the container c makes: its target without the
// padding. base is nil for a full image. Every segment is compared with its target
// digest, and the whole with the root; dst gets bytes before that, so after an error
// what it got is worth nothing. progress, if not nil, is told how much of the target is
// done, in bytes.
func Apply(ctx context.Context, c Container, base *Base, dst io.Writer, progress func(done, total int64)) error {
	h, err := c.Head()
	if err != nil {
		return err
	}
	if err := checkBase(h, base); err != nil {
		return err
	}
	a := applier{head: h, dst: dst, left: h.Target.Size - h.Padding, tree: verity.NewBuilder(h.Target.Size, h.Target.Salt)}
	if base != nil {
		a.base = deltas.Pad(base.Reader, base.Size)
	}
	for i, s := range h.Segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.segment(c.Reader, s); err != nil {
			return a.explain(fmt.Errorf("segment %d: %w", i, err))
		}
		if progress != nil {
			progress(s.Offset+s.Length, h.Target.Size)
		}
	}
	root, _, err := a.tree.Finish()
	if err == nil && root != h.Target.Root {
		err = fmt.Errorf("target: got root %s, want %s", root, h.Target.Root)
	}
	return err
}

func checkBase(h *deltas.Head, base *Base) error {
	switch {
	case h.Base.IsZero() && base != nil:
		return fmt.Errorf("container is a full image, which has no base")
	case !h.Base.IsZero() && base == nil:
		return fmt.Errorf("container is a delta from %s, whose base is missing", h.Base.Root)
	case base != nil && deltas.PaddedSize(base.Size) != h.Base.Size:
		return fmt.Errorf("base: got %d bytes, want %d", deltas.PaddedSize(base.Size), h.Base.Size)
	}
	return nil
}

// applier applies the segments of one container, in order.
type applier struct {
	head    *deltas.Head
	base    io.ReaderAt // padded, or nil
	dst     io.Writer
	left    int64 // bytes that dst still gets
	tree    *verity.Builder
	decoder Decoder
	execute deltas.Executor
	payload []byte
	nodes   []release.Digest // of the segment
}

// segment decodes and executes one segment, at the same time, and verifies it.
func (a *applier) segment(r io.ReaderAt, s deltas.Segment) error {
	a.payload = resize(a.payload, int(s.PayloadLength))
	if err := readFull(r, a.payload, s.PayloadOffset); err != nil {
		return err
	}
	a.nodes = a.nodes[:0]
	plan, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := a.decoder.Decode(a.payload, s, a.base, w)
		w.CloseWithError(err)
		done <- err
	}()
	err := a.execute.Execute(plan, s, a.base, a.head.Base.Size, a)
	plan.CloseWithError(io.ErrClosedPipe)
	if decodeErr := <-done; decodeErr != nil && err == nil {
		err = decodeErr
	}
	if err != nil {
		return err
	}
	if got := verity.SegmentDigest(a.nodes); got != s.Target {
		return fmt.Errorf("target at %d: got digest %s, want %s", s.Offset, got, s.Target)
	}
	return nil
}

// Write takes one span from the Executor.
func (a *applier) Write(span []byte) (int, error) {
	_, node := verity.HashSpan(a.head.Target.Salt, span)
	a.nodes = append(a.nodes, node)
	a.tree.Add(node)
	n := min(int64(len(span)), a.left)
	a.left -= n
	if n == 0 {
		return len(span), nil
	}
	if m, err := a.dst.Write(span[:n]); err != nil {
		return m, err
	}
	return len(span), nil
}

// explain looks, after err, for its likely reason: a base that is another one.
func (a *applier) explain(err error) error {
	if a.base == nil {
		return err
	}
	root, readErr := verity.Root(a.base, a.head.Base.Size, a.head.Base.Salt)
	if readErr == nil && root != a.head.Base.Root {
		return fmt.Errorf("base: got root %s, want %s (%w)", root, a.head.Base.Root, err)
	}
	return err
}

func readFull(r io.ReaderAt, b []byte, offset int64) error {
	if n, err := r.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read container at %d: %w", offset+int64(n), err)
	}
	return nil
}
