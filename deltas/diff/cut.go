package diff

import (
	"math/bits"
	"sort"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
)

const (
	// fullSegment is the length of a full image's segments, in bytes: what is fetched
	// again to repair one bad block.
	fullSegment = 4 << 20
	// maxData is how much DATA a delta's segment gets, in bytes. Half of what the format
	// allows leaves a dictionary of the largest size room for old bytes on both sides.
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

// dictionary chooses the ranges of the old image with which the DATA of e is coded: for
// every gap between two copies, what stood between them in the old image.
func (c *creator) dictionary(e extent) []deltas.Range {
	if !c.hasOld {
		return nil
	}
	var gaps []gap
	at := e.start
	last := -1 // the last COPY before at
	for i := e.first - 1; i >= 0 && last < 0; i-- {
		if c.pieces[i].op.FromBase() {
			last = i
		}
	}
	for i := e.first; at < e.end; i++ {
		start, end := e.end, e.end
		if i < len(c.pieces) {
			start, end = min(c.pieces[i].start, e.end), c.pieces[i].end()
		}
		if start-at >= minGap {
			gaps = append(gaps, c.gap(last, i, at, start))
		}
		if i < len(c.pieces) && c.pieces[i].op.FromBase() {
			last = i
		}
		at = max(at, end)
	}
	// Neighbours may lie: a gap may have shrunk or grown on one side. So each gap gets
	// more than its own length, as much as fits.
	for margin := int64(8); ; margin-- {
		list := c.merge(gaps, margin)
		if len(list) <= maxRanges && sum(list) <= deltas.MaxDictionary {
			return list
		}
		if margin == 0 {
			return truncate(list[:min(len(list), maxRanges)], deltas.MaxDictionary)
		}
	}
}

const (
	// minGap is the least DATA, in bytes, that gets a part of the dictionary.
	minGap = 64
	// maxStray is how much more the old image may have had between two neighbours before
	// they are taken for strangers, in bytes.
	maxStray = 256 << 10
	// maxRanges keeps a dictionary's description within what the format allows.
	maxRanges = 4096
)

// gap is DATA, and the part of the old image that it probably comes from.
type gap struct {
	length   int64
	paired   bool
	from, to int64 // of the old image, if its neighbours fit together
	before   int64 // where, in the old image, the copy before it ends
	after    int64 // and the copy after it begins
}

// gap describes the DATA from start to end, which lies in the gap between the COPY
// before, or -1, and the first COPY from piece after on, if any. The ends of the images
// are neighbours like any other.
func (c *creator) gap(before, after int, start, end int64) gap {
	for after < len(c.pieces) && !c.pieces[after].op.FromBase() {
		after++
	}
	g := gap{length: end - start, before: 0, after: c.old.size}
	left, right := int64(0), c.new.size
	if before >= 0 {
		p := c.pieces[before]
		g.before, left = p.from+p.length, p.end()
	}
	if after < len(c.pieces) {
		p := c.pieces[after]
		g.after, right = p.from, p.start
	}
	room := g.after - g.before
	if room <= 0 || room > 4*(right-left)+maxStray {
		return g
	}
	// A gap that spans segments is mapped in proportion.
	g.paired = true
	g.from = g.before + scale(start-left, room, right-left)
	g.to = g.before + scale(end-left, room, right-left)
	return g
}

// scale returns n*a/b, for n up to b, whatever the size of the product.
func scale(n, a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(a))
	q, _ := bits.Div64(hi, lo, uint64(b))
	return int64(q)
}

// merge returns the ranges of all gaps, sorted and without overlap, each with margin
// eighths of its length on both sides.
func (c *creator) merge(gaps []gap, margin int64) []deltas.Range {
	var all [][2]int64
	for _, g := range gaps {
		m := (g.length/8 + blockSize) * margin / 8 * 4
		if g.paired {
			all = append(all, [2]int64{g.from - m, g.to + m})
			continue
		}
		all = append(all,
			[2]int64{g.before - m, g.before + g.length + m},
			[2]int64{g.after - g.length - m, g.after + m})
	}
	sort.Slice(all, func(i, j int) bool { return all[i][0] < all[j][0] })
	var list []deltas.Range
	end := int64(0)
	for _, r := range all {
		from, to := max(r[0], 0), min(r[1], c.old.size)
		switch n := len(list); {
		case to <= max(from, end):
		case n > 0 && from <= end+blockSize:
			list[n-1].Length += to - end
			end = to
		default:
			list = append(list, deltas.Range{Offset: from, Length: to - from})
			end = to
		}
	}
	return list
}

func sum(list []deltas.Range) (n int64) {
	for _, r := range list {
		n += r.Length
	}
	return n
}

// truncate returns the first limit bytes of list.
func truncate(list []deltas.Range, limit int64) []deltas.Range {
	for i := range list {
		if list[i].Length >= limit {
			list[i].Length = limit
			return list[:i+1]
		}
		limit -= list[i].Length
	}
	return list
}
