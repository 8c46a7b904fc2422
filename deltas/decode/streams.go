package decode

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/coder"
)

// maxWindow is the largest window that a zstd frame may ask for, in bytes.
const maxWindow = 8 << 20

// stream is what is left of a stream that is being read.
type stream struct {
	id    deltas.StreamID
	left  int            // bytes
	plain []byte         // those bytes, or nil
	code  *coder.Decoder // where they come from
}

// next fills b.
func (s *stream) next(b []byte) error {
	if len(b) > s.left {
		return fmt.Errorf("stream %d ends %d bytes early", s.id, len(b)-s.left)
	}
	s.left -= len(b)
	if s.plain != nil {
		s.plain = s.plain[copy(b, s.plain):]
		return nil
	}
	if len(b) == 0 {
		return nil
	}
	if _, err := io.ReadFull(s.code, b); err != nil {
		return fmt.Errorf("stream %d: %w", s.id, err)
	}
	return nil
}

// end makes sure that nothing is left.
func (s *stream) end() error {
	if s.left > 0 {
		return fmt.Errorf("stream %d: %d bytes are not used", s.id, s.left)
	}
	return nil
}

// whole returns all bytes of s: in s.Body, or in *buf.
func (d *Decoder) whole(s deltas.Stream, buf *[]byte) ([]byte, error) {
	switch s.Codec {
	case deltas.CodecRaw:
		return s.Body, nil
	case deltas.CodecZstd:
		return d.frame(s, buf)
	}
	from, err := d.open(s, &d.code, nil)
	if err != nil {
		return nil, err
	}
	*buf = resize(*buf, s.Size)
	return *buf, from.next(*buf)
}

// open makes s ready to be read piece by piece: with code, if it is coded adaptively, else
// in *buf or in s.Body.
func (d *Decoder) open(s deltas.Stream, code *coder.Decoder, buf *[]byte) (stream, error) {
	from := stream{id: s.ID, left: s.Size}
	var err error
	switch s.Codec {
	case deltas.CodecRaw:
		from.plain = s.Body
	case deltas.CodecZstd:
		from.plain, err = d.frame(s, buf)
	case deltas.CodecAdaptive:
		from.code = code
		if err = code.Reset(Kind(s.ID), s.Body, s.Size); err != nil {
			err = fmt.Errorf("stream %d: %w", s.ID, err)
		}
	}
	return from, err
}

// Kind returns how CodecAdaptive models a stream.
func Kind(id deltas.StreamID) coder.Kind {
	switch id {
	case deltas.StreamOps:
		return coder.Instructions
	case deltas.StreamDifference:
		return coder.Difference
	}
	return coder.Literals
}

// frame decodes the zstd frame that s is into *buf.
func (d *Decoder) frame(s deltas.Stream, buf *[]byte) ([]byte, error) {
	if d.zstd == nil {
		var err error
		d.zstd, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderMaxMemory(maxWindow),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", s.ID, err)
		}
	}
	// The frame's own word for its size is compared first, so that a bomb is refused
	// before a byte of it is decoded; then the capacity keeps the decoder to it.
	var h zstd.Header
	if err := h.Decode(s.Body); err != nil {
		return nil, fmt.Errorf("stream %d: %w", s.ID, err)
	}
	if !h.HasFCS || h.FrameContentSize != uint64(s.Size) {
		return nil, fmt.Errorf("stream %d: frame of %d bytes, want %d", s.ID, h.FrameContentSize, s.Size)
	}
	*buf = resize(*buf, s.Size)
	out, err := d.zstd.DecodeAll(s.Body, (*buf)[:0])
	if err != nil {
		return nil, fmt.Errorf("stream %d: %w", s.ID, err)
	}
	if len(out) != s.Size {
		return nil, fmt.Errorf("stream %d: got %d bytes, want %d", s.ID, len(out), s.Size)
	}
	return out, nil
}

// resize returns b with length n, or new memory if b is too small.
func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
