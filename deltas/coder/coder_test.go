package coder

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	var e Encoder
	var d Decoder
	rapid.Check(t, func(t *rapid.T) {
		kind := Kind(rapid.IntRange(int(Literals), int(kinds)-1).Draw(t, "kind"))
		b := rapid.SliceOf(rapid.OneOf(rapid.Just(byte(0)), rapid.Byte())).Draw(t, "bytes")
		code, err := e.Encode(kind, b)
		got := make([]byte, len(b))
		if err == nil {
			err = read(&d, kind, code, got)
		}
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("kind %d: %d bytes decoded to other bytes (%v)", kind, len(b), err)
		}
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
			for kind := Literals; kind < kinds; kind++ {
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
	most := [kinds]int{Instructions: 63, Literals: 24, Difference: 7} // percent
	for kind := range kinds {
		b := sample(kind, 100_000, 3)
		if got := len(roundTrip(t, kind, b)); got*100 > most[kind]*len(b) {
			t.Errorf("%s: %d of %d bytes, want at most %d %%", names[kind], got, len(b), most[kind])
		}
	}
}

func TestLengthsOutOfBoundsAreRefused(t *testing.T) {
	for _, n := range []int{-1, MaxLength + 1, 1 << 30} {
		if err := new(Decoder).Reset(Literals, []byte{1, 2, 3, 4, 5}, n); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: got error %v, want %v", n, err, ErrLength)
		}
	}
	if _, err := decode(kinds, nil, 0); err == nil {
		t.Error("a kind that does not exist was decoded")
	}
	if _, err := decode(Literals, []byte{0}, 0); err == nil {
		t.Error("a byte was decoded to nothing")
	}
}

func TestCodesThatAreCutOrGoOnAreRefused(t *testing.T) {
	for kind := range kinds {
		b := sample(kind, 1000, 4)
		code := encode(t, kind, b)
		for cut := 0; cut < len(code); cut += 7 {
			if _, err := decode(kind, code[:cut], len(b)); err == nil {
				t.Errorf("%s: decoded from %d of %d bytes", names[kind], cut, len(code))
			}
		}
		if _, err := decode(kind, append(bytes.Clone(code), 0), len(b)); err == nil {
			t.Errorf("%s: decoded with a byte behind it", names[kind])
		}
		other := bytes.Clone(code)
		other[len(other)-1] ^= 1
		if _, err := decode(kind, other, len(b)); err == nil {
			t.Errorf("%s: decoded with another end", names[kind])
		}
		if _, err := decode(kind, code, len(b)/2); err == nil {
			t.Errorf("%s: half of it decoded from all", names[kind])
		}
		if _, err := decode(kind, code, 2*len(b)); err == nil {
			t.Errorf("%s: decoded to more than it holds", names[kind])
		}
	}
}

func TestStreamsAreReadInPiecesOfAnySize(t *testing.T) {
	var e Encoder
	var d Decoder
	r := rand.New(rand.NewPCG(9, 9))
	for round := range 12 { // with the memory of the streams before
		kind := Kind(round % int(kinds))
		want := sample(kind, 1+r.IntN(100_000), uint64(round))
		code, err := e.Encode(kind, want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(code, encode(t, kind, want)) {
			t.Errorf("%s: an encoder that was used before makes other bytes", names[kind])
		}
		if err := d.Reset(kind, code, len(want)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			b := make([]byte, r.IntN(1<<r.IntN(13)))
			n, err := d.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got other bytes", names[kind])
		}
	}
}

func TestWhatAreNoInstructionsIsNotEncodedAsSuch(t *testing.T) {
	for name, b := range map[string][]byte{
		"unknown operation": {8, 1}, "no length": {0}, "no distance": {1}, "distance only": {1, 5},
		"torn number": {0, 0x80}, "long form": {0, 0x80, 0}, "large number": {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if _, err := new(Encoder).Encode(Instructions, b); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestDamagedCodesGiveAnErrorOrAsManyBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for kind := range kinds {
		b := sample(kind, 1000, 5)
		code := encode(t, kind, b)
		for range 200 {
			bad := bytes.Clone(code)
			bad[r.IntN(len(bad))] ^= 1 << r.UintN(8)
			if got, err := decode(kind, bad, len(b)); err == nil && len(got) != len(b) {
				t.Fatalf("%s: got %d bytes, want %d", names[kind], len(got), len(b))
			}
		}
	}
}

func TestDecodersKeepToTheirMemory(t *testing.T) {
	for kind := range kinds {
		raw := sample(kind, 1<<20, 8) // tables are at their largest from there on
		code, out := encode(t, kind, raw), make([]byte, len(raw))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var d Decoder
		for range 2 { // the second time with the memory of the first
			if err := read(&d, kind, code, out); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
			t.Errorf("%s: allocated %d bytes", names[kind], got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for kind := range kinds {
		b := sample(kind, 300, 6)
		f.Add(uint8(kind), encode(f, kind, b), len(b))
		f.Add(uint8(kind), []byte{0xff, 0xff, 0xff, 0xff}, 1<<16)
	}
	f.Fuzz(func(t *testing.T, k uint8, code []byte, n int) {
		n = int(uint(n) % (1 << 18)) // for speed
		got, err := decode(Kind(k), code, n)
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
	code := encode(b, kind, raw)
	var d Decoder
	out := make([]byte, len(raw))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := read(&d, kind, code, out); err != nil {
			b.Fatal(err)
		}
	}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func encode(t failer, kind Kind, b []byte) []byte {
	t.Helper()
	code, err := new(Encoder).Encode(kind, b)
	if err != nil {
		t.Fatalf("kind %d: %v", kind, err)
	}
	return code
}

func decode(kind Kind, code []byte, n int) ([]byte, error) {
	b := make([]byte, n)
	err := read(new(Decoder), kind, code, b)
	return b, err
}

func read(d *Decoder, kind Kind, code, b []byte) error {
	if err := d.Reset(kind, code, len(b)); err != nil {
		return err
	}
	_, err := io.ReadFull(d, b)
	return err
}

// roundTrip returns the code of b, which must decode to b.
func roundTrip(t failer, kind Kind, b []byte) []byte {
	t.Helper()
	code := encode(t, kind, b)
	got, err := decode(kind, code, len(b))
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("kind %d: %d bytes decoded to other bytes (%v)", kind, len(b), err)
	}
	return code
}
