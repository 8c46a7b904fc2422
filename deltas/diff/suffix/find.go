package suffix

import (
	"encoding/binary"
	"math/bits"
)

// Index finds matches in a text.
type Index struct {
	text  []byte
	sa    []int32
	start []int32 // where the suffixes of each first two bytes begin in sa
}

// NewIndex sorts text, which must not change while the Index is used.
func NewIndex(text []byte) *Index {
	x := &Index{text, Sort(text), make([]int32, 1<<16+1)}
	counts := x.start[1:]
	for i := range text {
		counts[x.prefix(i)]++
	}
	for i := range counts {
		counts[i] += x.start[i]
	}
	return x
}

// prefix is the first two bytes of a suffix as a number; a missing one counts as 0.
func (x *Index) prefix(i int) int {
	p := int(x.text[i]) << 8
	if i+1 < len(x.text) {
		p |= int(x.text[i+1])
	}
	return p
}

// Find returns where in the text the longest match of a beginning of b is, and how long
// it is, of at most limit bytes. Matches of less than two bytes are not found.
func (x *Index) Find(b []byte, limit int) (at, length int) {
	b = b[:min(len(b), limit)]
	if len(b) < 2 {
		return 0, 0
	}
	p := int(b[0])<<8 | int(b[1])
	low, high := int(x.start[p]), int(x.start[p+1])
	if low == high {
		return 0, 0
	}
	lowCommon, highCommon := 0, 0 // of b with the suffixes next to [low, high)
	for low < high {
		middle := int(uint(low+high) / 2)
		suffix := x.text[x.sa[middle]:]
		n := min(lowCommon, highCommon, len(suffix))
		n += Common(suffix[n:], b[n:])
		if n > length {
			at, length = int(x.sa[middle]), n
			if n == len(b) {
				return at, n
			}
		}
		if n == len(suffix) || n < len(b) && suffix[n] < b[n] {
			low, lowCommon = middle+1, n
		} else {
			high, highCommon = middle, n
		}
	}
	if length < 2 {
		return 0, 0
	}
	return at, length
}

// Common returns how many bytes a and b begin with alike.
func Common(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}
