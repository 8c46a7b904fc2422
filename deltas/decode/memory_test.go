package decode

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/predict"
)

// A host gives the process that decodes little memory, whatever publishers send.
func TestDecoderKeepsToItsMemoryAtTheLimits(t *testing.T) {
	const changed = deltas.MaxDifference
	base := make([]byte, changed+predict.BlockSize)
	r := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var list []deltas.Instruction
	for range deltas.MaxOps - 2 {
		list = append(list, deltas.Instruction{Op: deltas.OpCopy, Offset: int64(r.IntN(changed)), Length: 1})
	}
	list = append(list, deltas.Instruction{Op: deltas.OpData, Length: deltas.MaxLiteral}, deltas.Instruction{Op: deltas.OpDiff, Length: changed})
	length := int64(deltas.MaxOps - 2 + deltas.MaxLiteral + changed)
	sparse := make([]byte, changed)
	for range changed / 64 {
		sparse[r.IntN(changed)] = byte(r.Uint32())
	}
	modes := make([]byte, changed/predict.BlockSize+1)
	for i := range modes {
		modes[i] = byte(2 * r.IntN(predict.Modes))
	}
	text := bytes.Repeat(noise(1000), deltas.MaxLiteral/1000+1)[:deltas.MaxLiteral]
	for name, p := range map[string][]byte{
		"adaptive": payload(adaptive(t, deltas.StreamOps, ops(list...)), adaptive(t, deltas.StreamData, text), adaptive(t, deltas.StreamModes, modes), adaptive(t, deltas.StreamDifference, sparse)),
		"zstd":     payload(compressed(t, deltas.StreamOps, ops(list...)), compressed(t, deltas.StreamData, text), compressed(t, deltas.StreamModes, modes), adaptive(t, deltas.StreamDifference, sparse)),
	} {
		s := segment(p, length)
		var d Decoder
		for i, most := range []uint64{18 << 20, 2 << 20} { // the second time it has its memory
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := d.Decode(p, s, bytes.NewReader(base), io.Discard); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%s, time %d: allocated %d bytes beside a payload of %d, want at most %d", name, i, got, len(p), most)
			}
		}
	}
}
