package predict

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
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

// guess returns what a piece becomes that has no difference.
func guess(p *Predictor, mode Mode, old, new int64, b []byte) []byte {
	out := make([]byte, len(b))
	p.Decode(mode, old, new, b, make([]byte, len(b)), out)
	return out
}

// teach tells p what a piece became.
func teach(p *Predictor, mode Mode, old, new int64, b, became []byte) {
	p.Encode(mode, old, new, b, became, make([]byte, len(b)))
}

// trial is guess without its lessons.
func trial(p *Predictor, mode Mode, old, new int64, b []byte) []byte {
	p.Begin()
	defer p.Undo()
	return guess(p, mode, old, new, b)
}

func words(list ...uint32) (b []byte) {
	for _, w := range list {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func call(distance int32) []byte {
	return append([]byte{0xe8}, words(uint32(distance))...)
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
		if got := trial(p, X86, c.old, c.new, call(c.distance)); !bytes.Equal(got, call(c.want)) {
			t.Errorf("%s: got % x, want % x", c.name, got, call(c.want))
		}
	}
}

func TestLessonsCountAtOnceAndForNeighbours(t *testing.T) {
	p := New(nil)
	b, learned := call(5000), call(5016)
	teach(p, X86, 100, 100, b, learned)
	if got := trial(p, X86, 100, 100, b); !bytes.Equal(got, learned) {
		t.Errorf("got % x, want % x", got, learned)
	}
	if got, want := trial(p, X86, 108, 108, call(5000)), call(5016); !bytes.Equal(got, want) {
		t.Errorf("to a neighbour: got % x, want % x", got, want)
	}
	p.Reset(nil)
	if got := trial(p, X86, 100, 100, b); !bytes.Equal(got, b) {
		t.Errorf("after Reset: got % x", got)
	}
}

func TestMovesThatWereWrongAreNotTrusted(t *testing.T) {
	p := New([]Move{{Old: 5000, New: 9000, Length: 1000}})
	teach(p, X86, 100, 100, call(5000), call(5016))
	teach(p, X86, 100, 100, call(5008), call(5024))
	if got, want := trial(p, X86, 100, 100, call(5016)), call(5032); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestFieldsOfEachModeAreLearned(t *testing.T) {
	for name, c := range map[string]struct {
		mode            Mode
		old, new        []byte
		next, wantsNext []byte
	}{
		"number": {Rows4, words(7000, 7000, 7000), words(7004, 7004, 7004), words(7010, 7020), words(7014, 7024)},
		"column": {Rows8, words(10, 70, 10, 70, 10, 70), words(13, 74, 13, 74, 13, 74), words(500, 600), words(503, 604)},
		"row": {Rows24, words(8, 0, 1, 2, 9, 0, 16, 0, 1, 2, 9, 0), words(12, 0, 1, 2, 7, 0, 20, 0, 1, 2, 7, 0),
			words(24, 0, 1, 2, 9, 0), words(28, 0, 1, 2, 7, 0)},
	} {
		p := New(nil)
		teach(p, c.mode, 240, 0, c.old, c.new)
		if got := guess(p, c.mode, 240+int64(len(c.old)), 800, c.next); !bytes.Equal(got, c.wantsNext) {
			t.Errorf("%s: got % x, want % x", name, got, c.wantsNext)
		}
	}
}

func TestAddressesOfARM64FollowTheMoves(t *testing.T) {
	const bl, adrp, add, ldr, beq = 0x94000000, 0x90000000, 0x91000000, 0xf9400000, 0x54000000
	p := New([]Move{{Old: 0, New: 0, Length: 0x1000}, {Old: 0x5000, New: 0x6010, Length: 0x4000}})
	for name, c := range map[string]struct{ old, want []byte }{
		"bl":              {words(bl | 0x5000/4), words(bl | 0x6010/4)},
		"b.eq":            {words(beq | 0x5000/4<<5), words(beq | 0x6010/4<<5)},
		"adrp, add":       {words(adrp|1<<29|1<<5|3, add|0x123<<10|3<<5|3), words(adrp|2<<29|1<<5|3, add|0x133<<10|3<<5|3)},
		"adrp, ldr":       {words(adrp|1<<29|1<<5|3, ldr|0x10<<10|3<<5|1), words(adrp|2<<29|1<<5|3, ldr|0x12<<10|3<<5|1)},
		"another address": {words(adrp|1<<29|1<<5|3, add|0x123<<10|4<<5|4), words(adrp|2<<29|1<<5|3, add|0x123<<10|4<<5|4)},
	} {
		if got := trial(p, ARM64, 0, 0, c.old); !bytes.Equal(got, c.want) {
			t.Errorf("%s: got % x, want % x", name, got, c.want)
		}
	}
}

func TestFrameFollowsItsFunction(t *testing.T) {
	// A common record, and two about functions at 0x1000 and 0x1100 of 0x100 bytes.
	frames := func(at, first, second, end uint32) []byte {
		return words(
			12, 0, 0x01020304, 0x05060708,
			16, 20, first-at-24, second-first, 0,
			16, 40, second-at-44, end-second, 0)
	}
	p := New([]Move{{Old: 0x1000, New: 0x1000, Length: 0x80}, {Old: 0x1080, New: 0x10a0, Length: 0x180}})
	got := guess(p, Frames, 0x4000, 0x5000, frames(0x4000, 0x1000, 0x1100, 0x1200))
	if want := frames(0x5000, 0x1000, 0x1120, 0x1220); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestFunctionOfGoIsAColumnEach(t *testing.T) {
	record := func(by uint32) []byte {
		return words(100+by, 200+2*by, 8, 0, 300+by, 400+by, 500+by, 1, 600+by, 7, 1<<24, 700+by, 800+by, 0)
	}
	p := New(nil)
	for range 3 {
		teach(p, GoFuncs, 0, 0, record(0), record(16))
	}
	if got, want := guess(p, GoFuncs, 56, 56, record(1)), record(17); !bytes.Equal(got[:4], want[:4]) || !bytes.Equal(got[16:28], want[16:28]) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestFieldThatAPieceCutsGoesOnInTheNext(t *testing.T) {
	p := New([]Move{{Old: 1000, New: 1300, Length: 1000}})
	b, want := call(1000), call(1300)
	out := make([]byte, 3)
	p.Decode(X86, 100, 100, b, make([]byte, 3), out)
	if got := append(out, trial(p, Raw, 103, 103, b[3:])...); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := trial(p, Raw, 103, 104, b[3:]); !bytes.Equal(got, b[3:]) {
		t.Errorf("elsewhere: got % x, want what is there", got)
	}
}
