package deltas

import (
	"bytes"
	"testing"
)

func FuzzParsePayload(f *testing.F) {
	ops := AppendInstructions(nil, []Instruction{{Op: OpCopy, Offset: 4096, Length: 9}, {Op: OpData, Length: 3}, {Op: OpDiff, Offset: 2, Length: 1 << 20}})
	f.Add(AppendPayload(nil, []Stream{{ID: StreamOps, Codec: CodecRaw, Size: len(ops), Body: ops}, {ID: StreamData, Codec: CodecAdaptive, Size: 30, Body: []byte("abc")}}))
	f.Add([]byte{1, 0, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		streams, err := ParsePayload(payload)
		if err != nil {
			return
		}
		sum := 0
		for id, s := range streams {
			if s.Size < 0 || uint64(s.Size) > StreamID(id).limit() || s.Size == 0 != (len(s.Body) == 0) {
				t.Fatalf("stream %d: %d bytes from %d", id, s.Size, len(s.Body))
			}
			sum += len(s.Body)
		}
		if sum > len(payload) {
			t.Fatalf("streams of %d bytes in a payload of %d", sum, len(payload))
		}
	})
}

func FuzzInstructions(f *testing.F) {
	f.Add(AppendInstructions(nil, []Instruction{{Op: OpCopy, Offset: 4096, Length: 9}, {Op: OpData, Length: 3}, {Op: OpDiff, Offset: 2, Length: 1 << 10}, {Op: OpZero, Length: 1}}), uint32(9+3+1<<10+1))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, length uint32) {
		n := int64(length%MaxSegment) + 1
		var all []Instruction
		sum := int64(0)
		for list := NewInstructions(b, n); ; {
			in, ok, err := list.Next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if in.Length < 1 || in.Offset < 0 {
				t.Fatalf("instruction %+v", in)
			}
			sum += in.Length
			all = append(all, in)
		}
		if sum != n || len(all) > MaxOps {
			t.Fatalf("%d instructions make %d bytes, want %d", len(all), sum, n)
		}
		// Numbers may have been longer than they had to be.
		if again := AppendInstructions(nil, all); len(again) > len(b) || len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatalf("written again, % x became % x", b, again)
		}
	})
}
