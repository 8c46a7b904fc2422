package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/deltas/diff"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// ErrTooLarge means that the map of an image would be larger than a host reads.
var ErrTooLarge = errors.New("the image is too large for a block map")

// Options are the zero value for defaults.
type Options struct {
	Threads  int                     // 0 = as many as there are processors
	Spool    diff.Spool              // empty; holds the frames until the head is known; nil = memory
	Progress func(done, total int64) // called now and then with bytes of the image; never concurrently
}

// Create writes to out the block map of an image. After an error what was written is
// worth nothing.
func Create(ctx context.Context, img *diff.Source, out io.Writer, o Options) (release.Blob, error) {
	if o.Spool == nil {
		o.Spool = new(memory)
	}
	blob, err := create(ctx, img, o.Spool, out, o)
	if err != nil {
		return release.Blob{}, fmt.Errorf("create block map: %w", err)
	}
	return blob, nil
}

func create(ctx context.Context, img *diff.Source, spool diff.Spool, out io.Writer, o Options) (release.Blob, error) {
	size := deltas.PaddedSize(img.Size)
	frame := blocks.FrameBlocks(size)
	if frame == 0 {
		return release.Blob{}, fmt.Errorf("%d bytes: %w", size, ErrTooLarge)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	c := &creator{
		image: deltas.Pad(img.Reader, img.Size), size: size, salt: img.Salt, frame: frame * verity.BlockSize,
		tree: verity.NewBuilder(size, img.Salt),
	}
	for range o.Threads {
		w, err := newWorker(c)
		if err != nil {
			return release.Blob{}, err
		}
		c.workers = append(c.workers, w)
	}
	for first := 0; first < verity.Spans(size); first += len(c.workers) {
		if err := ctx.Err(); err != nil {
			return release.Blob{}, err
		}
		if err := c.round(first, spool); err != nil {
			return release.Blob{}, err
		}
		if o.Progress != nil {
			o.Progress(min(int64(first+len(c.workers))*verity.NodeSpan, size), size)
		}
	}
	root, _, err := c.tree.Finish()
	if err != nil {
		return release.Blob{}, err
	}
	m, err := blocks.New(deltas.Identity{Size: size, Root: root, Salt: img.Salt}, frame, c.hashes, c.lengths, c.digests)
	if err != nil {
		return release.Blob{}, err
	}
	return write(m, spool, out)
}

// write writes head and frames to out.
func write(m *blocks.Map, spool diff.Spool, out io.Writer) (release.Blob, error) {
	head := m.Encode()
	blob := release.Blob{Size: m.Size(), Head: release.Head{SHA256: release.DigestOf(head), Size: int64(len(head))}}
	sum := sha256.New()
	w := io.MultiWriter(out, sum)
	if _, err := w.Write(head); err != nil {
		return blob, err
	}
	n, err := io.Copy(w, io.NewSectionReader(spool, 0, blob.Size-blob.Head.Size))
	if err == nil && n != blob.Size-blob.Head.Size {
		err = fmt.Errorf("spool: got %d bytes, want %d", n, blob.Size-blob.Head.Size)
	}
	sum.Sum(blob.SHA256[:0])
	return blob, err
}

// creator is one run of Create.
type creator struct {
	image   io.ReaderAt
	size    int64
	salt    release.Salt
	frame   int // bytes
	workers []*worker
	tree    *verity.Builder
	hashes  []byte
	lengths []int64
	digests []release.Digest
}

// round makes one span with each worker, from the span first on.
func (c *creator) round(first int, spool diff.Spool) error {
	count := min(len(c.workers), verity.Spans(c.size)-first)
	var all sync.WaitGroup
	for i, w := range c.workers[:count] {
		all.Go(func() { w.err = w.span(first + i) })
	}
	all.Wait()
	for i, w := range c.workers[:count] {
		if w.err != nil {
			return w.err
		}
		blocks := verity.SpanLength(c.size, first+i) / verity.BlockSize
		c.hashes = append(c.hashes, w.leaf[:blocks*sha256.Size]...)
		c.tree.Add(w.node)
		if _, err := spool.Write(w.payloads); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		c.lengths = append(c.lengths, w.lengths...)
		c.digests = append(c.digests, w.digests...)
	}
	return nil
}

// worker makes the frames of one span at a time.
type worker struct {
	c        *creator
	zstd     *zstd.Encoder
	data     []byte
	coded    []byte
	leaf     [verity.BlockSize]byte
	node     release.Digest
	payloads []byte
	lengths  []int64
	digests  []release.Digest
	err      error
}

func newWorker(c *creator) (*worker, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
	return &worker{c: c, zstd: e, data: make([]byte, verity.NodeSpan)}, err
}

func (w *worker) span(i int) error {
	data := w.data[:verity.SpanLength(w.c.size, i)]
	at := int64(i) * verity.NodeSpan
	if n, err := w.c.image.ReadAt(data, at); n < len(data) {
		return fmt.Errorf("read image at %d: %w", at+int64(n), err)
	}
	w.leaf, w.node = verity.HashSpan(w.c.salt, data)
	w.payloads, w.lengths, w.digests = w.payloads[:0], w.lengths[:0], w.digests[:0]
	for len(data) > 0 {
		n := min(w.c.frame, len(data))
		start := len(w.payloads)
		w.add(data[:n])
		w.lengths = append(w.lengths, int64(len(w.payloads)-start))
		w.digests = append(w.digests, release.DigestOf(w.payloads[start:]))
		data = data[n:]
	}
	return nil
}

// add appends the payload of one frame.
func (w *worker) add(b []byte) {
	if isZero(b) {
		ops := deltas.AppendInstructions(nil, []deltas.Instruction{{Op: deltas.OpZero, Length: int64(len(b))}})
		w.payloads = deltas.AppendPayload(w.payloads, []deltas.Stream{{ID: deltas.StreamOps, Size: len(ops), Body: ops}})
		return
	}
	ops := deltas.AppendInstructions(nil, []deltas.Instruction{{Op: deltas.OpData, Length: int64(len(b))}})
	data := deltas.Stream{ID: deltas.StreamData, Codec: deltas.CodecRaw, Size: len(b), Body: b}
	if w.coded = w.zstd.EncodeAll(b, w.coded[:0]); len(w.coded) < len(b) {
		data.Codec, data.Body = deltas.CodecZstd, w.coded
	}
	w.payloads = deltas.AppendPayload(w.payloads, []deltas.Stream{{ID: deltas.StreamOps, Size: len(ops), Body: ops}, data})
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// memory is the spool that is used if none is given.
type memory struct{ bytes.Buffer }

func (m *memory) ReadAt(b []byte, offset int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(b, offset)
}
