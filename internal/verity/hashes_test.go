package verity

import (
	"testing"

	"github.com/twinkeel/twinkeel/release"
)

// Whatever was asked before, a span hashes to what HashSpan says.
func TestHashesRememberNothingButHashes(t *testing.T) {
	a, b := release.Salt("salt"), release.Salt("pepper")
	one, two := make([]byte, 3*BlockSize), make([]byte, 3*BlockSize)
	two[len(two)-1] = 1
	var h *Hashes
	for range 2 {
		for range 4 {
			for _, salt := range []release.Salt{a, b, a} {
				for _, data := range [][]byte{one, two, one[:BlockSize]} {
					leaf, node := h.Span(salt, data)
					wantLeaf, wantNode := HashSpan(salt, data)
					if leaf != wantLeaf || node != wantNode {
						t.Fatalf("salt %s, %d bytes: got another hash than HashSpan's", salt, len(data))
					}
				}
			}
		}
		h = &Hashes{}
	}
}

// What hostile or damaged images are read back does not fill the memory.
func TestHashesAreBounded(t *testing.T) {
	var h Hashes
	data := make([]byte, NodeSpan)
	for i := range 2 * maxHashes / NodeSpan {
		data[i] = 1
		for range 3 {
			h.Span(nil, data)
		}
		held := 0
		for _, m := range []map[uint64]*hashed{h.made, h.before} {
			for _, k := range m {
				held += len(k.data)
			}
		}
		if held > maxHashes {
			t.Fatalf("got %d bytes, want at most %d", held, maxHashes)
		}
	}
}
