package build

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// Verify decodes every frame of the block map in r and compares every block with the
// head, and the image that they make with its root. It stores nothing.
func Verify(ctx context.Context, r io.ReaderAt, blob release.Blob, progress func(done, total int64)) error {
	if err := verify(ctx, r, blob, progress); err != nil {
		return fmt.Errorf("verify block map: %w", err)
	}
	return nil
}

func verify(ctx context.Context, r io.ReaderAt, blob release.Blob, progress func(done, total int64)) error {
	head := make([]byte, blob.Head.Size)
	if err := readFull(r, head, 0); err != nil {
		return err
	}
	m, err := blocks.Parse(head)
	if err != nil {
		return err
	}
	size := m.Target().Size
	tree := verity.NewBuilder(size, m.Target().Salt)
	v := verifier{r: r, m: m}
	for i := range verity.Spans(size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaf, node, err := v.span(int64(verity.SpanLength(size, i)))
		if err != nil {
			return err
		}
		for b := range verity.SpanLength(size, i) / verity.BlockSize {
			if block := i*verity.NodeSpan/verity.BlockSize + b; !m.Is(block, leaf[b*len(node):]) {
				return fmt.Errorf("block %d has another hash than the head says", block)
			}
		}
		tree.Add(node)
		if progress != nil {
			progress(min(int64(i+1)*verity.NodeSpan, size), size)
		}
	}
	root, _, err := tree.Finish()
	if err == nil && root != m.Target().Root {
		err = fmt.Errorf("root: got %s, want %s", root, m.Target().Root)
	}
	return err
}

type verifier struct {
	r       io.ReaderAt
	m       *blocks.Map
	next    int // frame
	decoder decode.Decoder
	execute deltas.Executor
	payload []byte
	plan    bytes.Buffer
	out     bytes.Buffer
}

// span decodes the frames of the next span, which is n bytes.
func (v *verifier) span(n int64) (leaf [verity.BlockSize]byte, node release.Digest, err error) {
	v.out.Reset()
	for int64(v.out.Len()) < n {
		f := v.m.Frame(v.next)
		v.payload = append(v.payload[:0], make([]byte, f.PayloadLength)...)
		if err := readFull(v.r, v.payload, f.PayloadOffset); err != nil {
			return leaf, node, err
		}
		s, err := v.m.Segment(v.next, v.payload)
		if err != nil {
			return leaf, node, err
		}
		v.plan.Reset()
		if err := v.decoder.Decode(v.payload, s, nil, &v.plan); err != nil {
			return leaf, node, err
		}
		if err := v.execute.Execute(&v.plan, s, nil, 0, &v.out); err != nil {
			return leaf, node, err
		}
		v.next++
	}
	leaf, node = verity.HashSpan(v.m.Target().Salt, v.out.Bytes())
	return leaf, node, nil
}

func readFull(r io.ReaderAt, b []byte, offset int64) error {
	if n, err := r.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read block map at %d: %w", offset+int64(n), err)
	}
	return nil
}
