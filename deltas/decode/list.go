package decode

import (
	"fmt"

	"github.com/twinkeel/twinkeel/deltas"
)

// List verifies payload, of segment s, and returns its instructions. It needs no base.
func (d *Decoder) List(payload []byte, s deltas.Segment) ([]deltas.Instruction, error) {
	streams, err := parse(payload, s)
	if err != nil {
		return nil, fmt.Errorf("list segment at %d: %w", s.Offset, err)
	}
	ops, err := d.whole(streams[deltas.StreamOps], &d.ops)
	if err != nil {
		return nil, fmt.Errorf("list segment at %d: %w", s.Offset, err)
	}
	var all []deltas.Instruction
	for list := deltas.NewInstructions(ops, s.Length); ; {
		in, ok, err := list.Next()
		if err != nil {
			return nil, fmt.Errorf("list segment at %d: %w", s.Offset, err)
		}
		if !ok {
			return all, nil
		}
		all = append(all, in)
	}
}
