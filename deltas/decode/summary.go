package decode

import (
	"fmt"

	"github.com/twinkeel/twinkeel/deltas"
)

// Summary says what a segment is made of: bytes of its target by instruction, and what
// they cost.
type Summary struct {
	Zero, Copy, Data int64 // bytes of target
	Diff             int64 // bytes of target that are bytes of the base, changed
	Instructions     int
	DataPayload      int64 // bytes of payload that Data takes
	DiffPayload      int64 // bytes of payload that Diff takes, without its instructions
}

// Add adds o to s.
func (s *Summary) Add(o Summary) {
	s.Zero += o.Zero
	s.Copy += o.Copy
	s.Data += o.Data
	s.Diff += o.Diff
	s.DiffPayload += o.DiffPayload
	s.Instructions += o.Instructions
	s.DataPayload += o.DataPayload
}

// Summarize verifies payload, of segment s, and says what it is made of. It needs no
// base.
func (d *Decoder) Summarize(payload []byte, s deltas.Segment) (Summary, error) {
	sum, err := d.summarize(payload, s)
	if err != nil {
		return Summary{}, fmt.Errorf("summarize segment at %d: %w", s.Offset, err)
	}
	return sum, nil
}

func (d *Decoder) summarize(payload []byte, s deltas.Segment) (sum Summary, err error) {
	streams, err := parse(payload, s)
	if err != nil {
		return sum, err
	}
	ops, err := d.whole(streams[deltas.StreamOps], &d.ops)
	if err != nil {
		return sum, err
	}
	sum.DataPayload = int64(len(streams[deltas.StreamData].Body))
	sum.DiffPayload = int64(len(streams[deltas.StreamModes].Body) + len(streams[deltas.StreamDifference].Body))
	for list := deltas.NewInstructions(ops, s.Length); ; sum.Instructions++ {
		in, ok, err := list.Next()
		if err != nil || !ok {
			return sum, err
		}
		switch in.Op {
		case deltas.OpZero:
			sum.Zero += in.Length
		case deltas.OpCopy:
			sum.Copy += in.Length
		case deltas.OpData:
			sum.Data += in.Length
		case deltas.OpDiff:
			sum.Diff += in.Length
		}
	}
}
