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

// pieceSize is how much is decoded, or read of the base, at once, in bytes.
const pieceSize = 64 << 10

// Decode is a Decoder used once.
func Decode(payload []byte, s deltas.Segment, base io.ReaderAt, w io.Writer) error {
	return new(Decoder).Decode(payload, s, base, w)
}

// Decoder turns payloads into plans. The zero value is ready; one that is used again
// reuses its memory, which is at most 24 MiB with the payload, whatever that says. It is
// not safe for concurrent use.
type Decoder struct {
	zstd       *zstd.Decoder
	code       coder.Decoder // of instructions, then of modes, then of data
	plan       *deltas.PlanWriter
	ops        []byte
	frames     []byte // data of a frame
	modes      []byte
	difference []byte // of a frame
	data       stream
	piece      []byte
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
	ops, err := d.whole(streams[deltas.StreamOps], &d.ops)
	if err != nil {
		return err
	}
	if err := d.patch(&streams, ops, s, base); err != nil {
		return err
	}
	if d.data, err = d.open(streams[deltas.StreamData], &d.code, &d.frames); err != nil {
		return err
	}
	if d.plan == nil {
		d.plan = deltas.NewPlanWriter(w)
		d.piece = make([]byte, pieceSize)
	} else {
		d.plan.Reset(w)
	}
	return d.writePlan(deltas.NewInstructions(ops, s.Length), s.Offset, base != nil)
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

func (d *Decoder) writePlan(list *deltas.Instructions, at int64, hasBase bool) error {
	for {
		in, ok, err := list.Next()
		if err != nil {
			return fmt.Errorf("target at %d: %w", at, err)
		}
		if !ok {
			break
		}
		if err := d.write(in, at, hasBase); err != nil {
			return fmt.Errorf("target at %d: %w", at, err)
		}
		at += in.Length
	}
	if err := d.data.end(); err != nil {
		return err
	}
	if err := d.patcher.end(); err != nil {
		return err
	}
	return d.plan.Flush()
}

// write writes what in makes at the offset at of the target.
func (d *Decoder) write(in deltas.Instruction, at int64, hasBase bool) error {
	switch in.Op {
	case deltas.OpZero:
		return d.plan.Zero(in.Length)
	case deltas.OpCopy:
		if !hasBase {
			return errors.New("copy without a base")
		}
		return d.plan.Copy(in.Offset, in.Length)
	case deltas.OpData:
		return d.copyData(in.Length)
	}
	return d.patcher.run(d.plan, in.Offset, at, in.Length)
}

// copyData writes the next n bytes of the data stream.
func (d *Decoder) copyData(n int64) error {
	if n > int64(d.data.left) {
		return fmt.Errorf("stream %d ends %d bytes early", deltas.StreamData, n-int64(d.data.left))
	}
	if err := d.plan.Begin(n); err != nil {
		return err
	}
	for n > 0 {
		b := d.piece[:min(n, pieceSize)]
		if err := d.data.next(b); err != nil {
			return err
		}
		if _, err := d.plan.Write(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}
