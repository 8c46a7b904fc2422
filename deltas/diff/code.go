package diff

import (
	"context"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	adaptive "github.com/twinkeel/twinkeel/deltas/coder"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// encoderWindow is the window of the frames that are made, in bytes: as long as the longest
// data stream.
const encoderWindow = deltas.MaxLiteral

// code makes the payloads of all segments and appends them, in order, to the spool.
func (c *creator) code(ctx context.Context) error {
	extents := c.cut()
	c.head.Segments = make([]deltas.Segment, len(extents))
	coders := make([]*coder, c.threads)
	defer func() { c.coders.put(!c.hasOld, coders) }()
	// spooled[i] is closed once the payload of segment i-1 is in the spool.
	spooled := make([]chan struct{}, len(extents)+1)
	for i := range spooled {
		spooled[i] = make(chan struct{})
	}
	close(spooled[0])
	return parallel(ctx, c.threads, len(extents), func(ctx context.Context, worker, i int) error {
		if coders[worker] == nil {
			coders[worker] = c.coders.take(!c.hasOld)
			coders[worker].differ = differ{old: c.old, new: c.new, areas: c.areas}
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
	if err := k.differ.run(list, e.start); err != nil {
		return nil, err
	}
	return k.encode(list)
}

// coder compresses streams. One is used by one worker.
type coder struct {
	full     bool // of a full image, which is to be decoded fast
	zstd     *zstd.Encoder
	adaptive adaptive.Encoder
	differ   differ
	data     []byte
	payload  []byte
}

// Coders keep the tables of compressors, tens of megabytes for each thread, from one Create to
// the next. What is made does not depend on them. The zero value is ready to use.
type Coders struct {
	mu   sync.Mutex
	free map[bool][]*coder // by whether they code full images
}

func (c *Coders) take(full bool) *coder {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.free[full]); n > 0 {
			k := c.free[full][n-1]
			c.free[full] = c.free[full][:n-1]
			return k
		}
	}
	return &coder{full: full}
}

func (c *Coders) put(full bool, used []*coder) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free == nil {
		c.free = map[bool][]*coder{}
	}
	for _, k := range used {
		if k != nil {
			k.differ = differ{} // it holds the images
			c.free[full] = append(c.free[full], k)
		}
	}
}

// encode returns the payload of k.data, list, and what k.differ made.
func (k *coder) encode(list []deltas.Instruction) ([]byte, error) {
	var streams []deltas.Stream
	for id, b := range [][]byte{
		deltas.StreamOps:        deltas.AppendInstructions(nil, list),
		deltas.StreamData:       k.data,
		deltas.StreamModes:      k.differ.modes,
		deltas.StreamDifference: k.differ.difference,
	} {
		if len(b) == 0 {
			continue
		}
		s, err := k.stream(deltas.StreamID(id), b)
		if err != nil {
			return nil, err
		}
		streams = append(streams, s)
	}
	k.payload = deltas.AppendPayload(k.payload[:0], streams)
	return k.payload, nil
}

// leastGain is the part of a stream, one in this many bytes, that the adaptive code must
// save: it takes a host a third of a second for each megabyte.
const leastGain = 32

// stream codes b, or leaves it as it is if coding gains nothing.
func (k *coder) stream(id deltas.StreamID, b []byte) (deltas.Stream, error) {
	s := deltas.Stream{ID: id, Codec: deltas.CodecRaw, Size: len(b), Body: b}
	if !k.full {
		coded, err := k.adaptive.Encode(decode.Kind(id), b)
		if err != nil {
			return s, fmt.Errorf("stream %d: %w", id, err)
		}
		if len(coded) < len(b)-len(b)/leastGain {
			s.Codec, s.Body = deltas.CodecAdaptive, coded
			return s, nil
		}
	}
	if k.zstd == nil {
		var err error
		level := zstd.SpeedBestCompression
		if !k.full { // which hardly compresses, or it would have been coded adaptively
			level = zstd.SpeedBetterCompression
		}
		if k.zstd, err = newEncoder(level); err != nil {
			return s, err
		}
	}
	if coded := k.zstd.EncodeAll(b, nil); len(coded) < len(b) {
		s.Codec, s.Body = deltas.CodecZstd, coded
	}
	return s, nil
}

func newEncoder(level zstd.EncoderLevel) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(encoderWindow),
		zstd.WithSingleSegment(true), // so that every frame states its content size
		zstd.WithEncoderCRC(false))   // digests do that
}
