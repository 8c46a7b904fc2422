package diff

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/predict"
)

// differ makes the modes and the difference of segments.
type differ struct {
	old, new  image
	areas     []area // of old
	predictor *predict.Predictor
	moves     []predict.Move

	parts      []diffPart // of the block
	block      int64
	mode       predict.Mode // of the block before
	guess      []byte
	modes      []byte
	difference []byte
}

// diffPart is the part of an OpDiff within one block.
type diffPart struct {
	old, new int64
	from     []byte // of the old image, with what hangs over
	to       []byte // of the new image
}

// run makes d.modes and d.difference for the instructions list of a segment that begins
// at the offset at of the new image.
func (d *differ) run(list []deltas.Instruction, at int64) error {
	d.modes, d.difference, d.moves = d.modes[:0], d.difference[:0], d.moves[:0]
	d.parts, d.block, d.mode = d.parts[:0], -1, predict.Raw
	new, any := at, false
	for _, in := range list {
		if in.Op.FromBase() {
			d.moves = append(d.moves, predict.Move{Old: in.Offset, New: new, Length: in.Length})
		}
		any = any || in.Op == deltas.OpDiff
		new += in.Length
	}
	if !any {
		return nil
	}
	predict.SortMoves(d.moves)
	if d.predictor == nil {
		d.predictor = predict.New(d.moves)
		d.guess = make([]byte, predict.BlockSize)
	} else {
		d.predictor.Reset(d.moves)
	}
	for _, in := range list {
		if in.Op == deltas.OpDiff {
			if err := d.add(in, at); err != nil {
				return err
			}
		}
		at += in.Length
	}
	d.flush()
	return nil
}

// add takes in the blocks of one instruction.
func (d *differ) add(in deltas.Instruction, at int64) error {
	for done := int64(0); done < in.Length; {
		size := min(in.Length-done, compareSize-(at+done)%predict.BlockSize) // so that no block is torn
		old := make([]byte, min(in.Length-done, size+predict.Overhang))
		new := make([]byte, size)
		if err := d.old.read(old, in.Offset+done); err != nil {
			return fmt.Errorf("old: %w", err)
		}
		if err := d.new.read(new, at+done); err != nil {
			return fmt.Errorf("new: %w", err)
		}
		for i := int64(0); i < size; {
			start := at + done + i
			block := start / predict.BlockSize
			end := min(size, (block+1)*predict.BlockSize-at-done)
			if block != d.block {
				d.flush()
				d.block = block
			}
			from := old[i:min(end+predict.Overhang, int64(len(old)))]
			d.parts = append(d.parts, diffPart{in.Offset + done + i, start, from, new[i:end]})
			i = end
		}
		done += size
	}
	return nil
}

// flush chooses the mode of the block and codes it.
func (d *differ) flush() {
	if len(d.parts) == 0 {
		return
	}
	d.mode = d.choose()
	start, same := len(d.difference), true
	for _, p := range d.parts {
		n := len(d.difference)
		d.difference = append(d.difference, p.to...)
		d.predictor.Encode(d.mode, p.old, p.new, p.from, p.to, d.difference[n:])
	}
	for _, b := range d.difference[start:] {
		same = same && b == 0
	}
	mode := byte(d.mode) * 2
	if same {
		d.difference = d.difference[:start]
		mode++
	}
	d.modes = append(d.modes, mode)
	d.parts = d.parts[:0]
}

// choose returns the mode that leaves least to code. The mode of the block before has a
// start, as staying with it costs nothing.
func (d *differ) choose() predict.Mode {
	best := d.mode
	cost := d.cost(d.mode, 1<<30)
	if cost == 0 {
		return best
	}
	usual, known := d.usual()
	if known && usual != best {
		if c := d.cost(usual, cost+usualBonus) - usualBonus; c < cost {
			best, cost = usual, c
		}
	} else if known {
		cost -= usualBonus
	}
	for m := range predict.Mode(predict.Modes) {
		if m == d.mode || known && m == usual {
			continue
		}
		if c := d.cost(m, cost) + changeCost; c < cost {
			best, cost = m, c
		}
	}
	return best
}

// usual returns the mode that most of the block's area has, if that is known.
func (d *differ) usual() (predict.Mode, bool) {
	at := d.parts[0].old
	i, found := slices.BinarySearchFunc(d.areas, at, func(a area, at int64) int { return cmp.Compare(a.start, at) })
	if !found {
		i--
	}
	if i < 0 || at >= d.areas[i].end {
		return predict.Raw, false
	}
	return d.areas[i].mode, true
}

// usualBonus is what it is worth that a table is predicted by one mode throughout.
const usualBonus = 64

// changeCost is what another mode than before costs, in bytes of difference.
const changeCost = 8

// What a byte that is not as predicted costs, and one whose difference is that of the
// row before, as it is in tables.
const (
	byteCost  = 4
	againCost = 1
)

// cost returns about how many bytes the block costs in mode m, or any number of at least
// limit if they are more.
func (d *differ) cost(m predict.Mode, limit int) (n int) {
	d.predictor.Begin()
	defer d.predictor.Undo()
	for _, p := range d.parts {
		guess := d.guess[:len(p.to)]
		d.predictor.Encode(m, p.old, p.new, p.from, p.to, guess)
		for i, b := range guess {
			switch {
			case b == 0:
			case i >= 24 && (b == guess[i-8] || b == guess[i-24]):
				n += againCost
			default:
				n += byteCost
			}
		}
		if n >= limit {
			break
		}
	}
	return n
}
