package coder

import (
	"encoding/binary"
	"math/rand/v2"
)

// names are what the golden vectors of each kind are called.
var names = [kinds]string{Instructions: "instructions", Literals: "literals", Difference: "difference"}

// sample returns about n bytes that look like a stream of the kind.
func sample(kind Kind, n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(kind)))
	b := make([]byte, 0, n+32)
	for len(b) < n {
		switch kind {
		case Instructions:
			b = append(b, 3)
			b = binary.AppendUvarint(b, r.Uint64N(1<<(7*(1+r.Uint64N(4)))))
			b = append(binary.AppendUvarint(b, 20+r.Uint64N(4000)), 2)
			b = binary.AppendUvarint(b, 1+r.Uint64N(30))
		case Difference:
			b = append(b, make([]byte, r.UintN(1<<(1+r.UintN(11))))...)
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(r.IntN(4000)-1000)*16))
		case Literals:
			if at := r.IntN(len(b) + 1); len(b) > 200 && r.UintN(9) == 0 {
				b = append(b, b[at:min(at+10+r.IntN(90), len(b))]...)
				continue
			}
			b = append(b, 0x48, 0x8b, byte(0x40|r.UintN(8)), 0xe8)
			b = binary.LittleEndian.AppendUint64(b, 0x400000+uint64(len(b))*3+r.Uint64N(8))
		}
	}
	if kind == Instructions {
		return b // none of which is to be torn
	}
	return b[:n]
}
