package coder

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := Kind(rapid.IntRange(0, int(kinds)-1).Draw(t, "kind"))
		roundTrip(t, kind, rapid.SliceOf(rapid.OneOf(rapid.Just(byte(0)), rapid.Byte())).Draw(t, "bytes"))
	})
}

func TestStreamsOfAllShapesAreDecoded(t *testing.T) {
	random := make([]byte, 1<<17)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	sparse := make([]byte, 1<<18)
	for range 1000 {
		sparse[r.IntN(len(sparse))] = byte(r.Uint32())
	}
	shapes := map[string][]byte{
		"empty": nil, "a zero": {0}, "a one": {1}, "random": random, "sparse": sparse,
		"all 0xff":    bytes.Repeat([]byte{0xff}, 100_000),
		"a long word": bytes.Repeat([]byte("twinkeel "), 20_000),
		"zeros":       make([]byte, 1<<18),
	}
	for name, b := range shapes {
		t.Run(name, func(t *testing.T) {
			for kind := range kinds {
				code := roundTrip(t, kind, b)
				if len(code) > len(b)+len(b)/16+16 {
					t.Errorf("%s: %d bytes became %d", names[kind], len(b), len(code))
				}
			}
		})
	}
}

func TestSixteenMiBOfZerosCostNextToNothing(t *testing.T) {
	if code := roundTrip(t, Difference, make([]byte, MaxLength)); len(code) > 16 {
		t.Errorf("got %d bytes, want at most 16", len(code))
	}
}

func TestEveryKindIsCodedInFewerBytesThanItHas(t *testing.T) {
	most := [kinds]int{Control: 63, Modes: 17, Difference: 6, Literals: 24} // percent
	for kind := range kinds {
		b := sample(kind, 100_000, 3)
		if got := len(roundTrip(t, kind, b)); got*100 > most[kind]*len(b) {
			t.Errorf("%s: %d of %d bytes, want at most %d %%", names[kind], got, len(b), most[kind])
		}
	}
}

func TestLengthsOutOfBoundsAreRefused(t *testing.T) {
	for _, n := range []int{-1, MaxLength + 1, 1 << 30} {
		if _, err := Decode(Literals, []byte{1, 2, 3, 4, 5}, n); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: got error %v, want %v", n, err, ErrLength)
		}
	}
	if _, err := Decode(kinds, nil, 0); err == nil {
		t.Error("a kind that does not exist was decoded")
	}
	if _, err := Decode(Modes, []byte{0}, 0); err == nil {
		t.Error("a byte was decoded to nothing")
	}
}

func TestCodesThatAreCutOrGoOnAreRefused(t *testing.T) {
	for kind := range kinds {
		b := sample(kind, 1000, 4)
		code := Encode(kind, b)
		for cut := 0; cut < len(code); cut += 7 {
			if _, err := Decode(kind, code[:cut], len(b)); err == nil {
				t.Errorf("%s: decoded from %d of %d bytes", names[kind], cut, len(code))
			}
		}
		if _, err := Decode(kind, append(bytes.Clone(code), 0), len(b)); err == nil {
			t.Errorf("%s: decoded with a byte behind it", names[kind])
		}
		other := bytes.Clone(code)
		other[len(other)-1] ^= 1
		if _, err := Decode(kind, other, len(b)); err == nil {
			t.Errorf("%s: decoded with another end", names[kind])
		}
		if _, err := Decode(kind, code, len(b)/2); err == nil {
			t.Errorf("%s: half of it decoded from all", names[kind])
		}
		if _, err := Decode(kind, code, 2*len(b)); err == nil {
			t.Errorf("%s: decoded to more than it holds", names[kind])
		}
	}
}

func TestDamagedCodesGiveAnErrorOrAsManyBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for kind := range kinds {
		b := sample(kind, 1000, 5)
		code := Encode(kind, b)
		for range 200 {
			bad := bytes.Clone(code)
			bad[r.IntN(len(bad))] ^= 1 << r.UintN(8)
			if got, err := Decode(kind, bad, len(b)); err == nil && len(got) != len(b) {
				t.Fatalf("%s: got %d bytes, want %d", names[kind], len(got), len(b))
			}
		}
	}
}

func TestDecodersKeepToTheirMemory(t *testing.T) {
	for kind := range kinds {
		const n = 1 << 20 // tables are at their largest from 64 KiB on
		code := Encode(kind, make([]byte, n))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode(kind, code, n); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > n+8<<20 {
			t.Errorf("%s: allocated %d bytes", names[kind], got)
		}
	}
}

func TestStatesFitAByteAndReachTheirLimits(t *testing.T) {
	next, odds := makeStates()
	state, highest := uint8(0), odds[0]
	for range 100 {
		state = next[state][1]
		highest = max(highest, odds[state])
	}
	if odds[state] != highest || highest < 63000 || next[state][1] != state {
		t.Errorf("after 100 ones: state %d, odds %d, highest %d", state, odds[state], highest)
	}
}

func FuzzDecode(f *testing.F) {
	for kind := range kinds {
		b := sample(kind, 300, 6)
		f.Add(uint8(kind), Encode(kind, b), len(b))
		f.Add(uint8(kind), []byte{0xff, 0xff, 0xff, 0xff}, 1<<16)
	}
	f.Fuzz(func(t *testing.T, k uint8, code []byte, n int) {
		if n > 1<<18 {
			n %= 1 << 18 // for speed
		}
		got, err := Decode(Kind(k), code, n)
		if err != nil {
			return
		}
		if len(got) != n {
			t.Fatalf("got %d bytes, want %d", len(got), n)
		}
		roundTrip(t, Kind(k), got)
	})
}

func BenchmarkDecode(b *testing.B) {
	for kind := range kinds {
		b.Run(names[kind], func(b *testing.B) { benchmarkDecode(b, kind, sample(kind, 1<<20, 7)) })
	}
	b.Run("zeros", func(b *testing.B) { benchmarkDecode(b, Difference, make([]byte, 4<<20)) })
}

func benchmarkDecode(b *testing.B, kind Kind, raw []byte) {
	code := Encode(kind, raw)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(kind, code, len(raw)); err != nil {
			b.Fatal(err)
		}
	}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// roundTrip returns the code of b, which must decode to b.
func roundTrip(t failer, kind Kind, b []byte) []byte {
	t.Helper()
	code := Encode(kind, b)
	got, err := Decode(kind, code, len(b))
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("kind %d: %d bytes decoded to other bytes (%v)", kind, len(b), err)
	}
	return code
}
