package predict

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func TestReferenceIsFoundInInstructions(t *testing.T) {
	field := []byte{1, 2, 3, 4}
	for name, c := range map[string]struct {
		code string
		want int
	}{
		"call":               {"e8", 1},
		"jmp":                {"e9", 1},
		"jne":                {"0f85", 2},
		"lea rax":            {"8d05", 2},
		"mov r15":            {"8b3d", 2},
		"movaps":             {"0f2805", 3},
		"vmovdqu":            {"c5fe6f05", 4},
		"vpxor, three bytes": {"c4e27d5805", 5},
		"call by memory":     {"ff15", 2},
		"push":               {"55", 0},
		"mov by register":    {"8bc1", 0},
		"mov by rbx":         {"8b03", 0},
	} {
		code, err := hex.DecodeString(c.code)
		if err != nil {
			t.Fatal(err)
		}
		b := append(code, field...)
		if got := Reference(b, 0); got != c.want {
			t.Errorf("%s: got a field at %d, want %d", name, got, c.want)
		}
		if got := Reference(b[:len(b)-1], 0); got != 0 {
			t.Errorf("%s, cut: got a field at %d", name, got)
		}
	}
}

// try predicts one piece that is a block of its own and returns the guess.
func try(p *Predictor, mode Mode, old, new int64, b []byte) []byte {
	out := make([]byte, len(b))
	p.Try(mode, old, new, b, out)
	return out
}

func call(distance int32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{0xe8}, uint32(distance))
}

func TestCallFollowsTheMoveOfItsTarget(t *testing.T) {
	p := New([]Move{{Old: 0, New: 0, Length: 1000}, {Old: 1000, New: 1048, Length: 1000}})
	for _, c := range []struct {
		name     string
		old, new int64
		distance int32
		want     int32
	}{
		{"within a move", 100, 100, 300, 300},
		{"to a later one", 100, 100, 1200, 1248},
		{"from a later one", 1100, 1148, -800, -848},
		{"to nowhere known", 100, 100, 5000, 5000},
	} {
		if got := try(p, Code, c.old, c.new, call(c.distance)); !bytes.Equal(got, call(c.want)) {
			t.Errorf("%s: got % x, want % x", c.name, got, call(c.want))
		}
	}
}

func TestLessonsCountFromTheNextBlock(t *testing.T) {
	p := New(nil)
	b := call(5000)
	learned := call(5016)
	try(p, Code, 100, 100, b)
	p.Commit(learned)
	if got := try(p, Code, 100, 100, b); !bytes.Equal(got, b) {
		t.Errorf("within the block: got % x", got)
	}
	p.EndBlock()
	if got := try(p, Code, 100, 100, b); !bytes.Equal(got, learned) {
		t.Errorf("in the next block: got % x, want % x", got, learned)
	}
	if got, want := try(p, Code, 108, 108, call(5000)), call(5016); !bytes.Equal(got, want) {
		t.Errorf("to a neighbour: got % x, want % x", got, want)
	}
	p.Reset(nil)
	if got := try(p, Code, 100, 100, b); !bytes.Equal(got, b) {
		t.Errorf("after Reset: got % x", got)
	}
}

func TestFieldsOfEachModeAreLearned(t *testing.T) {
	le := binary.LittleEndian
	for mode, c := range map[Mode]struct{ old, new, next, want []byte }{
		Address: {le.AppendUint64(nil, 0x401000), le.AppendUint64(nil, 0x401040), le.AppendUint64(nil, 0x401008), le.AppendUint64(nil, 0x401048)},
		Offset:  {le.AppendUint32(nil, 7000), le.AppendUint32(nil, 7004), le.AppendUint32(nil, 7010), le.AppendUint32(nil, 7014)},
		Series:  {le.AppendUint32(nil, 10), le.AppendUint32(nil, 13), le.AppendUint32(nil, 1<<31), le.AppendUint32(nil, 1<<31+3)},
	} {
		p := New(nil)
		try(p, mode, 64, 64, c.old)
		p.Commit(c.new)
		p.EndBlock()
		if got := try(p, mode, 72, 80, c.next); !bytes.Equal(got, c.want) {
			t.Errorf("mode %d: got % x, want % x", mode, got, c.want)
		}
	}
	p := New([]Move{{Old: 4096, New: 5000, Length: 100}})
	if got, want := try(p, Relative, 64, 68, le.AppendUint32(nil, 4096-64)), le.AppendUint32(nil, 5000-68); !bytes.Equal(got, want) {
		t.Errorf("mode %d: got % x, want % x", Relative, got, want)
	}
}

func TestFieldThatAPieceCutsGoesOnInTheNext(t *testing.T) {
	p := New([]Move{{Old: 1000, New: 1300, Length: 1000}})
	b, want := call(1000), call(1300)
	out := make([]byte, 3)
	p.Try(Code, 100, 100, b, out)
	p.Commit(out)
	rest := try(p, Raw, 103, 103, b[3:])
	if got := append(out, rest...); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := try(p, Raw, 103, 104, b[3:]); !bytes.Equal(got, b[3:]) {
		t.Errorf("elsewhere: got % x, want what is there", got)
	}
}

// session predicts random pieces and returns the digest of all guesses; with attempts,
// other modes are tried before each.
func session(seed uint64, attempts bool) [32]byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var moves []Move
	for range 50 {
		moves = append(moves, Move{int64(r.IntN(1 << 16)), int64(r.IntN(1 << 16)), int64(1 + r.IntN(3000))})
	}
	SortMoves(moves)
	p := New(moves)
	h := sha256.New()
	for range 2000 {
		b := make([]byte, 1+r.IntN(BlockSize+Overhang))
		for i := range b {
			b[i] = byte(r.Uint32())
			switch {
			case r.IntN(8) == 0:
				b[i] = 0xe8
			case i%4 == 3 && r.IntN(2) == 0:
				b[i] = 0
			}
		}
		out := make([]byte, min(len(b), 1+r.IntN(BlockSize)))
		old, new := int64(r.IntN(1<<16)), int64(r.IntN(1<<16))
		if attempts {
			for m := range Mode(Modes) {
				p.Try(m, old+1, new, b, make([]byte, len(out)))
			}
		}
		p.Try(Mode(r.IntN(Modes)), old, new, b, out)
		h.Write(out)
		for i := range out {
			out[i] += byte(r.IntN(3) / 2)
		}
		p.Commit(out)
		if r.IntN(3) == 0 {
			p.EndBlock()
		}
	}
	return [32]byte(h.Sum(nil))
}

// A generator tries every mode and a decoder only the chosen one.
func TestTryLeavesNothingBehind(t *testing.T) {
	for seed := range uint64(20) {
		if session(seed, true) != session(seed, false) {
			t.Errorf("seed %d: trying other modes changes the guess", seed)
		}
	}
}

// The guesses are a part of the format: if this fails, so do all containers.
func TestGoldenGuesses(t *testing.T) {
	const want = "89cd71e58c2a8cbd47092b75c52438bf80a37285110e5e2b2a35da59f175894c"
	if got := hex.EncodeToString(func() []byte { d := session(7, false); return d[:] }()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzTry(f *testing.F) {
	f.Add([]byte{0xe8, 1, 2, 3, 4, 0x48, 0x8b, 0x05, 1, 2, 3, 4, 0, 0, 0, 0}, int64(5), int64(9), int64(3), int64(100), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, old, new, at, length int64, cut uint8) {
		limit := int64(1) << 36
		old, new, at, length = old&(limit-1), new&(limit-1), at&(limit-1), length&(limit-1)
		p := New([]Move{{at, new, length}, {at + 5, old, length / 2}})
		for m := range Mode(Modes) {
			out := make([]byte, max(0, min(len(b)-int(cut)%(Overhang+1), BlockSize)))
			p.Try(m, old, new, b, out)
			p.Commit(out)
			p.EndBlock()
			old, new = old+int64(len(out)), new+int64(len(out))
		}
	})
}
