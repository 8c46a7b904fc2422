package suffix

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	// Step is the distance of the suffixes that are sorted, in bytes. Every other one
	// takes half the memory and the time, and a match that is missed for it is found a
	// byte later.
	Step = 2
	// Least is the length of the shortest matches that are sure to be found, in bytes.
	Least = 8
)

// Index finds matches in a text. It can be used for one text after the other.
type Index struct {
	text    []byte
	letters []uint16 // of text while it is sorted, then a bit for each Least bytes that a suffix begins with
	sa      []int32  // suffixes, as offsets divided by Step
	start   []int32  // where the suffixes of each first two bytes begin in sa
}

// Reset sorts text, of at most MaxSize bytes, which must not change while the Index is
// used.
func (x *Index) Reset(text []byte) {
	n := (len(text) + Step - 1) / Step
	x.text = text
	x.letters = resized(x.letters, n)
	for i := range x.letters {
		x.letters[i] = x.letter(i)
	}
	x.sa = resized(x.sa, n)
	sort(x.letters, x.sa, 1<<16)
	x.start = resized(x.start, 1<<16+1)
	clear(x.start)
	counts := x.start[1:]
	for _, l := range x.letters {
		counts[l]++
	}
	for i := range counts {
		counts[i] += x.start[i]
	}
	clear(x.letters)
	for i := 0; i+Least <= len(x.text); i += Step {
		f := x.bit(x.text[i:])
		x.letters[f/16] |= 1 << (f % 16)
	}
}

// resized returns a slice of length n, with room of b's if it has enough.
func resized[T any](b []T, n int) []T { return slices.Grow(b[:0], n)[:n] }

// letter is the first two bytes of a suffix as a number; a missing one counts as 0.
func (x *Index) letter(i int) uint16 {
	b := x.text[i*Step:]
	if len(b) == 1 {
		return uint16(b[0]) << 8
	}
	return binary.BigEndian.Uint16(b)
}

// bit returns which bit is set if the text may have what b begins with.
func (x *Index) bit(b []byte) uint64 {
	h := binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15
	f, _ := bits.Mul64((h^h>>32)*0xd6e8feb86659fd93, uint64(len(x.letters))*16)
	return f
}

// Find returns where in the text the longest match of a beginning of b is, of those that
// begin at a multiple of Step, and how long it is, of at most limit bytes. Matches of
// less than Least bytes are not found.
func (x *Index) Find(b []byte, limit int) (at, length int) {
	if len(b) < Least || len(x.sa) == 0 {
		return 0, 0
	}
	if f := x.bit(b); x.letters[f/16]>>(f%16)&1 == 0 {
		return 0, 0
	}
	b = b[:min(len(b), limit)]
	p := int(b[0])<<8 | int(b[1])
	low, high := int(x.start[p]), int(x.start[p+1])
	lowCommon, highCommon := 0, 0 // of b with the suffixes next to [low, high)
	for low < high {
		middle := int(uint(low+high) / 2)
		suffix := x.text[int(x.sa[middle])*Step:]
		n := min(lowCommon, highCommon, len(suffix))
		n += Common(suffix[n:], b[n:])
		if n > length {
			at, length = int(x.sa[middle])*Step, n
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
	if length < Least {
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
