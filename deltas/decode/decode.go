package decode

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/coder"
	"github.com/twinkeel/twinkeel/deltas/predict"
	"github.com/twinkeel/twinkeel/release"
)

// maxWindow is the largest window that a zstd frame may ask for, in bytes.
const maxWindow = 8 << 20

// Decode is a Decoder used once.
func Decode(payload []byte, s deltas.Segment, base io.ReaderAt, w io.Writer) error {
	return new(Decoder).Decode(payload, s, base, w)
}

// Decoder turns payloads into plans. The zero value is ready; one that is used again
// reuses its memory. It is not safe for concurrent use.
type Decoder struct {
	zstd       *zstd.Decoder
	plan       *deltas.PlanWriter
	ops        []byte
	ranges     []byte
	dictionary []byte
	data       []byte
	modes      []byte
	difference []byte
	moves      []predict.Move
	patcher    patcher
}

// Decode writes to w the plan that payload, of segment s, stands for. base is the old
// image, or nil. Nothing looks into payload before it has the digest s.Payload. After
// an error w may have got a part of a plan, which deltas.Execute refuses.
func (d *Decoder) Decode(payload []byte, s deltas.Segment, base io.ReaderAt, w io.Writer) error {
	if err := d.decode(payload, s, base, w); err != nil {
		return fmt.Errorf("decode segment at %d: %w", s.Offset, err)
	}
	return nil
}

func (d *Decoder) decode(payload []byte, s deltas.Segment, base io.ReaderAt, w io.Writer) error {
	streams, err := parse(payload, s)
	if err != nil {
		return err
	}
	d.dictionary = d.dictionary[:0] // the last payload's must not be seen by this one
	ops, err := d.stream(streams[deltas.StreamOps], &d.ops)
	if err != nil {
		return err
	}
	if err := d.readDictionary(streams[deltas.StreamDictionary], base); err != nil {
		return err
	}
	data, err := d.stream(streams[deltas.StreamData], &d.data)
	if err != nil {
		return err
	}
	if err := d.patch(&streams, ops, s, base); err != nil {
		return err
	}
	if d.plan == nil {
		d.plan = deltas.NewPlanWriter(w)
	} else {
		d.plan.Reset(w)
	}
	return d.writePlan(deltas.NewInstructions(ops, s.Length), s.Offset, data, base != nil)
}

// parse verifies payload and finds its streams.
func parse(payload []byte, s deltas.Segment) (deltas.Streams, error) {
	if int64(len(payload)) != s.PayloadLength {
		return deltas.Streams{}, fmt.Errorf("payload: got %d bytes, want %d", len(payload), s.PayloadLength)
	}
	if got := release.DigestOf(payload); got != s.Payload {
		return deltas.Streams{}, fmt.Errorf("payload: got digest %s, want %s", got, s.Payload)
	}
	return deltas.ParsePayload(payload)
}

func (d *Decoder) writePlan(list *deltas.Instructions, at int64, data []byte, hasBase bool) error {
	for {
		in, ok, err := list.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch in.Op {
		case deltas.OpZero:
			err = d.plan.Zero(in.Length)
		case deltas.OpCopy:
			if !hasBase {
				return errors.New("copy without a base")
			}
			err = d.plan.Copy(in.Offset, in.Length)
		case deltas.OpData:
			if in.Length > int64(len(data)) {
				return fmt.Errorf("data stream ends %d bytes early", in.Length-int64(len(data)))
			}
			err = d.plan.Data(data[:in.Length])
			data = data[in.Length:]
		case deltas.OpDiff:
			err = d.patcher.run(d.plan, in.Offset, at, in.Length)
		}
		at += in.Length
		if err != nil {
			return err
		}
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes of the data stream are not used", len(data))
	}
	if err := d.patcher.end(); err != nil {
		return err
	}
	return d.plan.Flush()
}

// readDictionary reads the ranges that s lists into d.dictionary.
func (d *Decoder) readDictionary(s deltas.Stream, base io.ReaderAt) error {
	if s.Size == 0 {
		return nil
	}
	if base == nil {
		return errors.New("dictionary without a base")
	}
	coded, err := d.stream(s, &d.ranges)
	if err != nil {
		return err
	}
	list, err := deltas.ParseRanges(coded)
	if err != nil {
		return err
	}
	var sum int64
	for _, r := range list {
		sum += r.Length
	}
	d.dictionary = resize(d.dictionary, int(sum))
	at := d.dictionary
	for _, r := range list {
		if n, err := base.ReadAt(at[:r.Length], r.Offset); int64(n) < r.Length {
			return fmt.Errorf("dictionary: read base at %d: %w", r.Offset+int64(n), err)
		}
		at = at[r.Length:]
	}
	return nil
}

// stream returns the decoded bytes of s: s.Size of them, in *buf or in s.Body.
func (d *Decoder) stream(s deltas.Stream, buf *[]byte) ([]byte, error) {
	switch s.Codec {
	case deltas.CodecRaw:
		return s.Body, nil
	case deltas.CodecAdaptive:
		*buf = resize(*buf, s.Size)
		if err := coder.DecodeInto(Kind(s.ID), *buf, s.Body); err != nil {
			return nil, fmt.Errorf("stream %d: %w", s.ID, err)
		}
		return *buf, nil
	case deltas.CodecZstdDictionary:
		if len(d.dictionary) == 0 {
			return nil, fmt.Errorf("stream %d: is coded with a dictionary that is not there", s.ID)
		}
	}
	if err := d.reset(s.Codec == deltas.CodecZstdDictionary); err != nil {
		return nil, fmt.Errorf("stream %d: %w", s.ID, err)
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

// Kind returns how CodecAdaptive models a stream.
func Kind(id deltas.StreamID) coder.Kind {
	switch id {
	case deltas.StreamModes:
		return coder.Modes
	case deltas.StreamDifference:
		return coder.Difference
	case deltas.StreamData:
		return coder.Literals
	}
	return coder.Control
}

// reset makes d.zstd ready for a frame with or without the dictionary.
func (d *Decoder) reset(dictionary bool) (err error) {
	options := []zstd.DOption{zstd.WithDecoderDictDelete()}
	if dictionary {
		options = append(options, zstd.WithDecoderDictRaw(deltas.DictionaryID, d.dictionary))
	}
	if d.zstd != nil {
		return d.zstd.ResetWithOptions(nil, options...)
	}
	d.zstd, err = zstd.NewReader(nil, append(options,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(maxWindow),
		zstd.WithDecodeAllCapLimit(true))...)
	return err
}

// resize returns b with length n, or new memory if b is too small.
func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
