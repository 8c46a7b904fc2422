package diff

import (
	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
)

const (
	// fullSegment is the length of a full image's segments, in bytes: what is fetched
	// again to repair one bad block.
	fullSegment = 4 << 20
	// maxData is how much DATA a delta's segment gets, in bytes: what is lost of one
	// fetched segment is small beside the image.
	maxData = deltas.MaxLiteral / 2
)

// extent is a range of the new image that becomes a segment.
type extent struct {
	start, end int64
	first      int // the first piece that ends behind start
}

// cut divides the new image into segments, at whole spans.
func (c *creator) cut() []extent {
	maxLength := int64(deltas.MaxSegment)
	if !c.hasOld {
		maxLength = fullSegment
	}
	var list []extent
	var e extent
	var data, diff int64
	ops, next := 0, 0 // next is the first piece that ends behind e.end
	for at := int64(0); at < c.new.size; {
		end := min(at+verity.NodeSpan, c.new.size)
		first := next
		spanData, spanOps, spanDiff := end-at, 1, int64(0)
		for ; next < len(c.pieces) && c.pieces[next].start < end; next++ {
			p := c.pieces[next]
			spanData -= min(p.end(), end) - max(p.start, at)
			if p.op == deltas.OpDiff {
				spanDiff += min(p.end(), end) - max(p.start, at)
			}
			spanOps += 2 // the piece, and DATA behind it
			if p.end() > end {
				break
			}
		}
		full := data+spanData > maxData || diff+spanDiff > deltas.MaxDifference || ops+spanOps > deltas.MaxOps || end-e.start > maxLength
		if at > e.start && full {
			list = append(list, e)
			e = extent{start: at, first: first}
			data, diff, ops = 0, 0, 0
		}
		data += spanData
		diff += spanDiff
		ops += spanOps
		e.end = end
		at = end
	}
	return append(list, e)
}

// instructions returns what makes e.
func (c *creator) instructions(e extent) []deltas.Instruction {
	var list []deltas.Instruction
	at := e.start
	for _, p := range c.pieces[e.first:] {
		if p.start >= e.end {
			break
		}
		if p.start > at {
			list = append(list, deltas.Instruction{Op: deltas.OpData, Length: p.start - at})
			at = p.start
		}
		in := deltas.Instruction{Op: p.op, Length: min(p.end(), e.end) - at}
		if p.op.FromBase() {
			in.Offset = p.from + at - p.start
		}
		list = append(list, in)
		at += in.Length
	}
	if at < e.end {
		list = append(list, deltas.Instruction{Op: deltas.OpData, Length: e.end - at})
	}
	return list
}
