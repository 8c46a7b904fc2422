package coder

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := Kind(rapid.IntRange(0, int(kinds)-1).Draw(t, "kind"))
		b := rapid.SliceOf(rapid.OneOf(rapid.Just(byte(0)), rapid.Byte())).Draw(t, "bytes")
		code := Encode(kind, b)
		got, err := Decode(kind, code, len(b))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("decode: %v, %x, want %x", err, got, b)
		}
	})
}
