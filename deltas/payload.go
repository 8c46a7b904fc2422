package deltas

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/deltas/predict"
)

// StreamID tells the streams of a payload apart; the numbers are part of the format.
type StreamID byte

const (
	// StreamOps holds the instructions, as Op describes them.
	StreamOps StreamID = 0
	// StreamData holds the bytes of all DATA instructions, in order.
	StreamData StreamID = 1
	// StreamModes holds a byte for each block of predict.BlockSize bytes of the target that
	// an OpDiff touches, in order: twice the predict.Mode, and 1 more if the block has no
	// difference from what is predicted.
	StreamModes StreamID = 2
	// StreamDifference holds the bytes of all OpDiff, in order, less what is predicted,
	// without the blocks that have none.
	StreamDifference StreamID = 3

	streamCount = 4
)

// Codec says how a stream is coded; the numbers are part of the format.
type Codec byte

const (
	// CodecRaw is for bytes as they are.
	CodecRaw Codec = 0
	// CodecZstd is one zstd frame that states its content size.
	CodecZstd Codec = 1
	// CodecAdaptive is package coder's, of the kind that the stream is of.
	CodecAdaptive Codec = 2

	codecCount = 3
)

const (
	maxOpsStream   = 1 << 20
	maxModesStream = MaxSegment / predict.BlockSize
)

// Stream is one stream of a payload.
type Stream struct {
	ID    StreamID
	Codec Codec
	Size  int    // bytes when decoded
	Body  []byte // as coded
}

// Streams are the streams of a payload by their id; one that it does not have is empty,
// of CodecRaw.
type Streams [streamCount]Stream

// limit returns the largest Size of the stream, in bytes.
func (s StreamID) limit() uint64 {
	switch s {
	case StreamOps:
		return maxOpsStream
	case StreamModes:
		return maxModesStream
	case StreamDifference:
		return MaxDifference
	}
	return MaxLiteral
}

// ParsePayload returns the streams of a payload. Bodies point into payload.
func ParsePayload(payload []byte) (streams Streams, err error) {
	c := cursor{b: payload}
	count := c.uvarint(streamCount)
	next := uint64(0) // the smallest id that may follow
	var lengths [streamCount]uint64
	for range count {
		id := c.uvarint(streamCount - 1)
		codec := c.uvarint(codecCount - 1)
		s := Stream{ID: StreamID(id), Codec: Codec(codec)}
		s.Size = int(c.uvarint(s.ID.limit()))
		lengths[id] = c.uvarint(MaxPayload)
		if c.err != nil {
			break
		}
		if id < next {
			return streams, fmt.Errorf("payload: stream %d is out of order", id)
		}
		if s.Size == 0 || lengths[id] == 0 || s.Codec == CodecRaw && uint64(s.Size) != lengths[id] {
			return streams, fmt.Errorf("payload: stream %d: %d bytes cannot be %d bytes", id, lengths[id], s.Size)
		}
		streams[id] = s
		next = id + 1
	}
	for i := range streams {
		streams[i].ID = StreamID(i)
		streams[i].Body = c.bytes(int(lengths[i]))
	}
	switch {
	case c.err != nil:
		return streams, fmt.Errorf("payload: %w", c.err)
	case len(c.b) > 0:
		return streams, fmt.Errorf("payload: %d bytes behind the last stream", len(c.b))
	case streams[StreamOps].Size == 0:
		return streams, errors.New("payload: no instructions")
	}
	return streams, nil
}

// AppendPayload appends to b the payload that holds streams, which are sorted by id and
// not empty.
func AppendPayload(b []byte, streams []Stream) []byte {
	b = binary.AppendUvarint(b, uint64(len(streams)))
	for _, s := range streams {
		b = append(b, byte(s.ID), byte(s.Codec))
		b = binary.AppendUvarint(b, uint64(s.Size))
		b = binary.AppendUvarint(b, uint64(len(s.Body)))
	}
	for _, s := range streams {
		b = append(b, s.Body...)
	}
	return b
}

// Instruction is one step of a segment. Offset, in the base, is for OpCopy and
// OpDiff.
type Instruction struct {
	Op     Op
	Offset int64
	Length int64
}

// Instructions reads the decoded StreamOps of a payload.
type Instructions struct {
	c    cursor
	ops  int
	left int64
	from int64 // where the last copy ended
}

// NewInstructions reads the instructions in b, of a segment of length bytes.
func NewInstructions(b []byte, length int64) *Instructions {
	return &Instructions{c: cursor{b: b}, left: length}
}

// Next returns the next instruction, or false after the last one. It makes sure that
// the instructions make exactly the segment and that each makes at least one byte; it
// does not know where the base ends.
func (i *Instructions) Next() (Instruction, bool, error) {
	if i.left == 0 {
		if len(i.c.b) > 0 {
			return Instruction{}, false, fmt.Errorf("%d bytes behind the last instruction", len(i.c.b))
		}
		return Instruction{}, false, nil
	}
	if i.ops++; i.ops > MaxOps {
		return Instruction{}, false, fmt.Errorf("more than %d instructions", MaxOps)
	}
	var in Instruction
	if b := i.c.bytes(1); len(b) > 0 {
		in.Op = Op(b[0])
	}
	switch in.Op {
	case OpZero, OpData:
	case OpCopy, OpDiff:
		in.Offset = i.c.relative(i.from)
	default:
		return Instruction{}, false, fmt.Errorf("instruction %d is unknown", in.Op)
	}
	in.Length = i.c.int64(i.left)
	if i.c.err == nil && in.Length == 0 {
		return Instruction{}, false, errors.New("instruction of 0 bytes")
	}
	if i.c.err != nil {
		return Instruction{}, false, fmt.Errorf("instructions: %w", i.c.err)
	}
	i.left -= in.Length
	if in.Op.FromBase() {
		i.from = in.Offset + in.Length
	}
	return in, true, nil
}

// AppendInstructions appends to b the coded form of list.
func AppendInstructions(b []byte, list []Instruction) []byte {
	var from int64
	for _, in := range list {
		b = append(b, byte(in.Op))
		if in.Op.FromBase() {
			b = binary.AppendVarint(b, in.Offset-from)
			from = in.Offset + in.Length
		}
		b = binary.AppendUvarint(b, uint64(in.Length))
	}
	return b
}
