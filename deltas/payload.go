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
	// StreamDictionary holds ranges of the base, each as the distance from the end of the
	// range before it and a length; their bytes, in that order, are the dictionary of the
	// streams that are coded with CodecZstdDictionary.
	StreamDictionary StreamID = 1
	// StreamData holds the bytes of all DATA instructions, in order.
	StreamData StreamID = 2
	// StreamModes holds a byte for each block of predict.BlockSize bytes of the target that
	// an OpDiff touches, in order: twice the predict.Mode, and 1 more if the block has no
	// difference from what is predicted.
	StreamModes StreamID = 3
	// StreamDifference holds the bytes of all OpDiff, in order, less what is predicted,
	// without the blocks that have none.
	StreamDifference StreamID = 4

	streamCount = 5
)

// Codec says how a stream is coded; the numbers are part of the format.
type Codec byte

const (
	// CodecRaw is for bytes as they are.
	CodecRaw Codec = 0
	// CodecZstd is one zstd frame that states its content size.
	CodecZstd Codec = 1
	// CodecZstdDictionary is the same with the payload's dictionary as a raw one.
	CodecZstdDictionary Codec = 2

	// CodecAdaptive is package coder's, of the kind that the stream is of.
	CodecAdaptive Codec = 3

	codecCount = 4
)

// DictionaryID is the identity that frames of CodecZstdDictionary name.
const DictionaryID = 1

const (
	maxOpsStream        = 1 << 20
	maxDictionaryStream = 64 << 10
	maxModesStream      = MaxSegment / predict.BlockSize
)

// Stream is one stream of a payload.
type Stream struct {
	ID    StreamID
	Codec Codec
	Size  int    // bytes when decoded
	Body  []byte // as coded
}

// Streams are the streams of a payload by their id; one that it does not have is empty.
type Streams [streamCount]Stream

// limit returns the largest Size of the stream, in bytes.
func (s StreamID) limit() uint64 {
	switch s {
	case StreamOps:
		return maxOpsStream
	case StreamDictionary:
		return maxDictionaryStream
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

// Range is a part of the base, in bytes.
type Range struct {
	Offset, Length int64
}

// ParseRanges reads the decoded StreamDictionary of a payload.
func ParseRanges(b []byte) ([]Range, error) {
	c := cursor{b: b}
	var list []Range
	var end, sum int64
	for len(c.b) > 0 && c.err == nil {
		r := Range{Offset: c.relative(end)}
		r.Length = c.int64(MaxDictionary - sum)
		if c.err == nil && r.Length == 0 {
			return nil, errors.New("dictionary: range of 0 bytes")
		}
		end = r.Offset + r.Length
		sum += r.Length
		list = append(list, r)
	}
	if c.err != nil {
		return nil, fmt.Errorf("dictionary: %w", c.err)
	}
	return list, nil
}

// AppendRanges appends to b the coded form of list.
func AppendRanges(b []byte, list []Range) []byte {
	var end int64
	for _, r := range list {
		b = binary.AppendVarint(b, r.Offset-end)
		b = binary.AppendUvarint(b, uint64(r.Length))
		end = r.Offset + r.Length
	}
	return b
}
