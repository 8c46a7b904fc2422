package decode

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/coder"
	"github.com/twinkeel/twinkeel/deltas/predict"
)

// patcher carries out the OpDiff of one segment.
type patcher struct {
	predictor  *predict.Predictor
	base       io.ReaderAt
	modes      []byte
	difference stream
	code       coder.Decoder // of difference
	block      int64         // of the target, that mode is of; -1 before the first
	mode       predict.Mode
	same       bool // whether the block has no difference
	old, out   []byte
	none       [predict.BlockSize]byte // the difference of a block that has none
	change     []byte                  // from what is predicted, of a piece
}

// patch gets d.patcher ready for the streams of a segment.
func (d *Decoder) patch(streams *deltas.Streams, ops []byte, s deltas.Segment, base io.ReaderAt) error {
	p := &d.patcher
	p.base, p.block = base, -1
	var err error
	if p.modes, err = d.whole(streams[deltas.StreamModes], &d.modes); err != nil {
		return err
	}
	if p.difference, err = d.open(streams[deltas.StreamDifference], &p.code, &d.difference); err != nil {
		return err
	}
	modes := p.modes
	if len(modes) == 0 {
		return nil
	}
	if base == nil {
		return errors.New("difference without a base")
	}
	if d.moves, err = Moves(d.moves[:0], deltas.NewInstructions(ops, s.Length), s.Offset); err != nil {
		return err
	}
	if p.predictor == nil {
		p.predictor = predict.New(d.moves)
		p.old = make([]byte, pieceSize+predict.Overhang)
		p.out = make([]byte, predict.BlockSize)
		p.change = make([]byte, predict.BlockSize)
	} else {
		p.predictor.Reset(d.moves)
	}
	return nil
}

// Moves appends to list what the instructions of a segment, which starts at the offset
// start of the target, say about where old bytes went. The generator needs it too.
func Moves(list []predict.Move, in *deltas.Instructions, start int64) ([]predict.Move, error) {
	// Counting first costs less than growing does.
	for count, n := *in, 0; ; {
		i, ok, err := count.Next()
		if err != nil || !ok {
			list = slices.Grow(list, n)
			break
		}
		if i.Op.FromBase() {
			n++
		}
	}
	for {
		i, ok, err := in.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if i.Op.FromBase() {
			list = append(list, predict.Move{Old: i.Offset, New: start, Length: i.Length})
		}
		start += i.Length
	}
	predict.SortMoves(list)
	return list, nil
}

// run writes the n bytes that an OpDiff makes at the offset new of the target, from the
// base's from the offset old on.
func (p *patcher) run(plan *deltas.PlanWriter, old, new, n int64) error {
	if p.old == nil || p.base == nil {
		return errors.New("difference without modes or without a base")
	}
	if err := plan.Begin(n); err != nil {
		return err
	}
	for n > 0 {
		size := min(n, pieceSize-new%predict.BlockSize) // so that no block is torn
		b := p.old[:min(n, size+predict.Overhang)]
		if m, err := p.base.ReadAt(b, old); m < len(b) {
			return fmt.Errorf("difference: read base at %d: %w", old+int64(m), err)
		}
		for at := int64(0); at < size; {
			end := min(size, (new+at)/predict.BlockSize*predict.BlockSize+predict.BlockSize-new)
			if err := p.piece(plan, old+at, new+at, b[at:], int(end-at)); err != nil {
				return err
			}
			at = end
		}
		old, new, n = old+size, new+size, n-size
	}
	return nil
}

// piece is the part of an OpDiff, of n bytes, within one block.
func (p *patcher) piece(plan *deltas.PlanWriter, old, new int64, b []byte, n int) error {
	if block := new / predict.BlockSize; block != p.block {
		if err := p.nextBlock(block); err != nil {
			return err
		}
	}
	out := p.out[:n]
	difference := p.none[:n]
	if !p.same {
		change := p.change[:n]
		if err := p.difference.next(change); err != nil {
			return err
		}
		difference = change
	}
	p.predictor.Decode(p.mode, old, new, b[:min(len(b), n+predict.Overhang)], difference, out)
	_, err := plan.Write(out)
	return err
}

func (p *patcher) nextBlock(block int64) error {
	if len(p.modes) == 0 {
		return fmt.Errorf("stream %d ends early", deltas.StreamModes)
	}
	p.block = block
	p.mode, p.same = predict.Mode(p.modes[0]/2), p.modes[0]%2 == 1
	p.modes = p.modes[1:]
	if p.mode >= predict.Modes {
		return fmt.Errorf("mode %d is unknown", p.mode)
	}
	return nil
}

// end reports what is left over.
func (p *patcher) end() error {
	if len(p.modes) > 0 {
		return fmt.Errorf("stream %d: %d bytes are not used", deltas.StreamModes, len(p.modes))
	}
	return p.difference.end()
}
