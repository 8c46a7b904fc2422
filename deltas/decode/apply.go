package decode

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

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

// Options are the zero value for defaults.
type Options struct {
	// Threads is how many segments are worked on at a time, in 16 MiB each; 0 = as many as
	// there are processors.
	Threads int
	// Progress, if not nil, is told how much of the target is done, in bytes; never
	// concurrently.
	Progress func(done, total int64)
}

// Apply writes to dst the source that the container c makes: its target without the
// padding. base is nil for a full image; dst is nil if the container is only to be
// verified. Every segment is compared with its target digest, and the whole with the
// root; dst gets bytes before that, so after an error what it got is worth nothing.
//
// A dst that is an io.WriterAt, as files are, gets its bytes that way, from its start on
// and in any order. Another one gets them in order, from one thread.
func Apply(ctx context.Context, c Container, base *Base, dst io.Writer, o Options) error {
	h, err := c.Head()
	if err != nil {
		return err
	}
	if err := checkBase(h, base); err != nil {
		return err
	}
	a := application{head: h, container: c.Reader, progress: o.Progress, nodes: make([][]release.Digest, len(h.Segments))}
	if base != nil {
		a.base = deltas.Pad(base.Reader, base.Size)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if at, ok := dst.(io.WriterAt); ok {
		a.dst = at
	} else if dst != nil {
		a.dst, o.Threads = inOrder{dst}, 1
	}
	if err := a.run(ctx, o.Threads); err != nil {
		return err
	}
	tree := verity.NewBuilder(h.Target.Size, h.Target.Salt)
	for _, nodes := range a.nodes {
		for _, n := range nodes {
			tree.Add(n)
		}
	}
	root, _, err := tree.Finish()
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

// application is one run of Apply.
type application struct {
	head      *deltas.Head
	container io.ReaderAt
	base      io.ReaderAt // padded, or nil
	dst       io.WriterAt // or nil
	nodes     [][]release.Digest
	next      atomic.Int64 // the first segment that nobody has taken

	mu       sync.Mutex
	progress func(done, total int64)
	done     int64
	failed   int // the first segment that failed
	err      error
}

// run applies all segments. Of errors it returns the first one's, in the container's
// order as far as that is known when all threads have stopped.
func (a *application) run(ctx context.Context, threads int) error {
	a.failed = len(a.head.Segments)
	var all sync.WaitGroup
	for range min(threads, len(a.head.Segments)) {
		all.Go(func() {
			w := applier{application: a}
			for {
				i := int(a.next.Add(1)) - 1
				if i >= len(a.head.Segments) || a.stopped() {
					return
				}
				err := ctx.Err()
				if err == nil {
					if err = w.segment(i); err != nil {
						err = fmt.Errorf("segment %d: %w", i, err)
					}
				}
				a.finish(i, err)
			}
		})
	}
	all.Wait()
	if a.err != nil && ctx.Err() == nil {
		return a.explain(a.err)
	}
	return a.err
}

func (a *application) stopped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err != nil
}

// finish takes note of what came of a segment.
func (a *application) finish(i int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if i < a.failed {
			a.failed, a.err = i, err
		}
		return
	}
	a.done += a.head.Segments[i].Length
	if a.progress != nil {
		a.progress(a.done, a.head.Target.Size)
	}
}

// explain looks, after err, for its likely reason: a base that is another one.
func (a *application) explain(err error) error {
	if a.base == nil {
		return err
	}
	root, readErr := verity.Root(a.base, a.head.Base.Size, a.head.Base.Salt)
	if readErr == nil && root != a.head.Base.Root {
		return fmt.Errorf("base: got root %s, want %s (%w)", root, a.head.Base.Root, err)
	}
	return err
}

// applier is one thread of Apply. Decoder and Executor work at the same time.
type applier struct {
	*application
	decoder Decoder
	execute deltas.Executor
	payload []byte
	at      int64            // of the target, where the next span goes
	nodes   []release.Digest // of the segment
}

// segment decodes and executes segment i, and verifies it.
func (a *applier) segment(i int) error {
	s := a.head.Segments[i]
	a.payload = resize(a.payload, int(s.PayloadLength))
	if err := readFull(a.container, a.payload, s.PayloadOffset); err != nil {
		return err
	}
	a.at = s.Offset
	a.nodes = make([]release.Digest, 0, verity.Spans(s.Length))
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
	a.application.nodes[i] = a.nodes
	return nil
}

// Write takes one span from the Executor.
func (a *applier) Write(span []byte) (int, error) {
	_, node := verity.HashSpan(a.head.Target.Salt, span)
	a.nodes = append(a.nodes, node)
	at := a.at
	a.at += int64(len(span))
	n := min(int64(len(span)), a.head.Target.Size-a.head.Padding-at)
	if n <= 0 || a.dst == nil {
		return len(span), nil
	}
	if m, err := a.dst.WriteAt(span[:n], at); err != nil {
		return m, err
	}
	return len(span), nil
}

// inOrder writes what comes in order anyway.
type inOrder struct{ w io.Writer }

func (w inOrder) WriteAt(b []byte, _ int64) (int, error) { return w.w.Write(b) }

func readFull(r io.ReaderAt, b []byte, offset int64) error {
	if n, err := r.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read container at %d: %w", offset+int64(n), err)
	}
	return nil
}
