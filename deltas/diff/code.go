package diff

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	adaptive "github.com/twinkeel/twinkeel/deltas/coder"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// encoderWindow is the window of the frames that are made, in bytes: it reaches from the
// end of the longest data stream to the beginning of the largest dictionary.
const encoderWindow = deltas.MaxLiteral + deltas.MaxDictionary

// code makes the payloads of all segments and appends them, in order, to the spool.
func (c *creator) code(ctx context.Context) error {
	extents := c.cut()
	c.head.Segments = make([]deltas.Segment, len(extents))
	coders := make([]*coder, c.threads)
	// spooled[i] is closed once the payload of segment i-1 is in the spool.
	spooled := make([]chan struct{}, len(extents)+1)
	for i := range spooled {
		spooled[i] = make(chan struct{})
	}
	close(spooled[0])
	return parallel(ctx, c.threads, len(extents), func(ctx context.Context, worker, i int) error {
		if coders[worker] == nil {
			coders[worker] = &coder{adaptive: c.adaptive, differ: differ{old: c.old, new: c.new, areas: c.areas}}
		}
		e := extents[i]
		payload, err := c.payload(coders[worker], e)
		if err != nil {
			return err
		}
		select {
		case <-spooled[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if _, err := c.spool.Write(payload); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		c.payloads += int64(len(payload))
		c.head.Segments[i] = deltas.Segment{
			Offset: e.start, Length: e.end - e.start,
			PayloadLength: int64(len(payload)),
			Payload:       release.DigestOf(payload),
			Target:        verity.SegmentDigest(c.nodes[e.start/verity.NodeSpan : (e.end+verity.NodeSpan-1)/verity.NodeSpan]),
		}
		close(spooled[i+1])
		c.progress.add(e.end - e.start)
		return nil
	})
}

// payload makes the payload of e. It is valid until the coder is used again.
func (c *creator) payload(k *coder, e extent) ([]byte, error) {
	list := c.instructions(e)
	k.data = k.data[:0]
	at := e.start
	for _, in := range list {
		if in.Op == deltas.OpData {
			n := len(k.data)
			k.data = append(k.data, make([]byte, in.Length)...)
			if err := c.new.read(k.data[n:], at); err != nil {
				return nil, fmt.Errorf("new: %w", err)
			}
		}
		at += in.Length
	}
	k.dictionary = k.dictionary[:0]
	var ranges []deltas.Range
	if !k.adaptive { // else what is like old bytes is DIFF
		ranges = c.dictionary(e)
	}
	for _, r := range ranges {
		n := len(k.dictionary)
		k.dictionary = append(k.dictionary, make([]byte, r.Length)...)
		if err := c.old.read(k.dictionary[n:], r.Offset); err != nil {
			return nil, fmt.Errorf("old: %w", err)
		}
	}
	if err := k.differ.run(list, e.start); err != nil {
		return nil, err
	}
	return k.encode(list, ranges)
}

// coder compresses streams. One is used by one worker. It makes an encoder when it first
// needs it, as those for data take 35 MiB, and with a dictionary twice that.
type coder struct {
	small          *zstd.Encoder // for everything but data
	plain          *zstd.Encoder
	withDictionary *zstd.Encoder
	adaptive       bool // of a small delta, rather than a fast one or a full image
	differ         differ
	data           []byte
	dictionary     []byte
	payload        []byte
}

// encode returns the payload of k.data and list. ranges are where k.dictionary is from.
func (k *coder) encode(list []deltas.Instruction, ranges []deltas.Range) ([]byte, error) {
	if err := k.needSmall(); err != nil {
		return nil, err
	}
	streams := []deltas.Stream{k.stream(deltas.StreamOps, deltas.CodecZstd, deltas.AppendInstructions(nil, list), k.small)}
	if len(k.data) > 0 {
		data, err := k.dataStream()
		if err != nil {
			return nil, err
		}
		if data.Codec == deltas.CodecZstdDictionary {
			streams = append(streams, k.stream(deltas.StreamDictionary, deltas.CodecZstd, deltas.AppendRanges(nil, ranges), k.small))
		}
		streams = append(streams, data)
	}
	if len(k.differ.modes) > 0 {
		streams = append(streams, k.stream(deltas.StreamModes, deltas.CodecZstd, k.differ.modes, k.small))
		if err := k.needPlain(); err != nil {
			return nil, err
		}
		if len(k.differ.difference) > 0 {
			streams = append(streams, k.stream(deltas.StreamDifference, deltas.CodecZstd, k.differ.difference, k.plain))
		}
	}
	k.payload = deltas.AppendPayload(k.payload[:0], streams)
	return k.payload, nil
}

func (k *coder) dataStream() (deltas.Stream, error) {
	if len(k.dictionary) > 0 {
		err := k.needDictionary()
		return k.stream(deltas.StreamData, deltas.CodecZstdDictionary, k.data, k.withDictionary), err
	}
	err := k.needPlain()
	return k.stream(deltas.StreamData, deltas.CodecZstd, k.data, k.plain), err
}

// stream codes b, or leaves it as it is if coding gains nothing.
//
// The adaptive code takes a host a second for each megabyte of what it makes: that is for
// deltas whose bytes matter more, and never for a full image.
func (k *coder) stream(id deltas.StreamID, codec deltas.Codec, b []byte, encoder *zstd.Encoder) deltas.Stream {
	s := deltas.Stream{ID: id, Codec: deltas.CodecRaw, Size: len(b), Body: b}
	if coded := encoder.EncodeAll(b, nil); len(coded) < len(b) {
		s.Codec, s.Body = codec, coded
	}
	if !k.adaptive {
		return s
	}
	if coded := adaptive.Encode(decode.Kind(id), b); len(coded) < len(s.Body)-len(s.Body)/64 {
		s.Codec, s.Body = deltas.CodecAdaptive, coded
	}
	return s
}

func (k *coder) needSmall() (err error) {
	if k.small == nil {
		k.small, err = newEncoder(zstd.SpeedBetterCompression)
	}
	return err
}

func (k *coder) needPlain() (err error) {
	if k.plain == nil {
		level := zstd.SpeedBestCompression
		if k.adaptive { // which mostly is the smaller, and takes less memory
			level = zstd.SpeedBetterCompression
		}
		k.plain, err = newEncoder(level)
	}
	return err
}

// needDictionary sets the encoder to k.dictionary, and makes it if need be.
func (k *coder) needDictionary() (err error) {
	dictionary := zstd.WithEncoderDictRaw(deltas.DictionaryID, k.dictionary)
	if k.withDictionary == nil {
		k.withDictionary, err = newEncoder(zstd.SpeedBestCompression, dictionary)
		return err
	}
	return k.withDictionary.ResetWithOptions(nil, dictionary)
}

func newEncoder(level zstd.EncoderLevel, more ...zstd.EOption) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, append([]zstd.EOption{
		zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(encoderWindow),
		zstd.WithSingleSegment(true), // so that every frame states its content size
		zstd.WithEncoderCRC(false),   // digests do that
	}, more...)...)
}
