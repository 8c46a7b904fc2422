package predict

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// step is a piece of a random session, and what it became.
type step struct {
	mode     Mode
	old, new int64
	from, to []byte
}

// random returns moves and steps as a program may have them, or nothing sensible at all.
func random(seed uint64) ([]Move, []step) {
	r := rand.New(rand.NewPCG(seed, 1))
	var moves []Move
	for range 50 {
		moves = append(moves, Move{int64(r.IntN(1 << 16)), int64(r.IntN(1 << 16)), int64(1 + r.IntN(3000))})
	}
	SortMoves(moves)
	var steps []step
	old, new := int64(0), int64(0)
	for range 2000 {
		if r.IntN(4) == 0 {
			old, new = int64(r.IntN(1<<16)), int64(r.IntN(1<<16))
		}
		n := 1 + r.IntN(BlockSize)
		from := make([]byte, n+r.IntN(Overhang+1))
		for i := range from {
			from[i] = noise(r, i)
		}
		if r.IntN(3) == 0 {
			records(r, from)
		}
		to := slices.Clone(from[:n])
		for i := range to {
			to[i] += byte(r.IntN(8) / 7)
		}
		steps = append(steps, step{mode: Mode(r.IntN(Modes)), old: old, new: new, from: from, to: to})
		old, new = old+int64(n), new+int64(n)
	}
	return moves, steps
}

func noise(r *rand.Rand, i int) byte {
	switch {
	case r.IntN(8) == 0:
		return 0xe8
	case i%4 == 3 && r.IntN(2) == 0:
		return []byte{0, 0x90, 0x94, 0x91, 0xf9}[r.IntN(5)]
	}
	return byte(r.Uint32())
}

// records makes b look like what some modes want to see.
func records(r *rand.Rand, b []byte) {
	for at := r.IntN(8); at+4 <= len(b); at += 4 {
		binary.LittleEndian.PutUint32(b[at:], uint32([]int{12, 16, 20, 0, 4, 300}[r.IntN(6)]+r.IntN(2)))
	}
}

// run encodes the steps, with other modes tried before each if attempts is set, and
// returns the digest of all differences, after it saw that they decode.
func run(t *testing.T, p, q *Predictor, moves []Move, steps []step, attempts bool) string {
	t.Helper()
	p.Reset(moves)
	q.Reset(moves)
	h := sha256.New()
	for i, s := range steps {
		difference, out := make([]byte, len(s.to)), make([]byte, len(s.to))
		if attempts {
			for m := range Mode(Modes) {
				p.Begin()
				p.Encode(m, s.old, s.new, s.from, s.to, difference)
				p.Encode(m, s.old+3, s.new, s.from, s.to, difference)
				p.Undo()
			}
		}
		p.Encode(s.mode, s.old, s.new, s.from, s.to, difference)
		h.Write(difference)
		q.Decode(s.mode, s.old, s.new, s.from, difference, out)
		if !bytes.Equal(out, s.to) {
			t.Fatalf("step %d, mode %d: got % x, want % x", i, s.mode, out, s.to)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A generator tries every mode, in segments that others share; a decoder sees only what
// was chosen.
func TestDecoderLearnsWhatTheEncoderLearned(t *testing.T) {
	p, q := New(nil), New(nil)
	for seed := range uint64(10) {
		moves, steps := random(seed)
		with := run(t, p, q, moves, steps, true)
		without := run(t, New(nil), New(nil), moves, steps, false)
		if with != without {
			t.Errorf("seed %d: what was tried or came before changes the difference", seed)
		}
	}
}

func TestManySegmentsLeaveNothingBehind(t *testing.T) {
	moves, steps := random(3)
	steps = steps[:50]
	p, q := New(nil), New(nil)
	want := run(t, p, q, moves, steps, false)
	for i := range 3 * maxAge {
		if got := run(t, p, q, moves, steps, false); got != want {
			t.Fatalf("after %d segments: got %s, want %s", i, got, want)
		}
	}
}

// The guesses are a part of the format: if this fails, so do all containers. Each mode
// has its own line.
func TestGoldenDifferences(t *testing.T) {
	for mode, want := range golden {
		moves, steps := random(7)
		for i := range steps {
			steps[i].mode = Mode(mode)
			if i%5 == 0 {
				steps[i].mode = Mode(i % Modes)
			}
		}
		if got := run(t, New(nil), New(nil), moves, steps, false); got != want {
			t.Errorf("mode %d: got %s, want %s", mode, got, want)
		}
	}
}

var golden = [Modes]string{
	Raw:     "b97b10387d08517ca8b054c666712d466f354612e51decd352f2963a2820cf68",
	X86:     "521bb86e3f21c945573b6002f029a2cb8fe0e8479198b291b8e2d11a6d33fb95",
	ARM64:   "15a3a23a126d70486e1ec13a4b7f468e132b9fa1e81d9e36c4de6ad4cdbe6590",
	Rows4:   "63e1d2dae5c1d956a29b5f5c6de7d9584a4c722ed51613507094100adbbec0dd",
	Rows8:   "933c2d4708193eaa4bfdcb5a7b4cc20ed74dde75043514c862c4bfef17d77950",
	Rows24:  "90254846312090f1bb8dc14722ad090a8a9f21944f8a18ad4905a4373bc95479",
	Frames:  "8df72078f1c48cb856d424c296ef02255abd45db8fd65d0979e3fad70403db7d",
	GoFuncs: "73032d431602bb533f238b73a24e56d551d3c1913a863630b27e0fe9ff5f2966",
}

func TestBytesOfWordsAreAddedEachByItself(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a, b := r.Uint64(), r.Uint64()
		sum := addBytes(a, b)
		for i := range 8 {
			if got, want := byte(sum>>(8*i)), byte(a>>(8*i))+byte(b>>(8*i)); got != want {
				t.Fatalf("%x + %x, byte %d: got %x, want %x", a, b, i, got, want)
			}
		}
		if got := subtractBytes(sum, b); got != a {
			t.Fatalf("%x - %x: got %x, want %x", sum, b, got, a)
		}
	}
}

func TestHostileMovesAreNoTrouble(t *testing.T) {
	var moves []Move
	for i := range int64(1000) {
		moves = append(moves, Move{i, math.MaxInt64 - i, 1 << 40}, Move{math.MaxInt64 - i, i, i + 1}, Move{1 << 35, i, 1})
	}
	SortMoves(moves)
	_, steps := random(9)
	for i := range steps {
		steps[i].old += math.MaxInt64 / 2 * int64(i&1)
	}
	run(t, New(nil), New(nil), moves, steps, false)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xe8, 1, 2, 3, 4, 0x48, 0x8b, 0x05, 1, 2, 3, 4, 0, 0, 0, 0}, []byte{1}, int64(5), int64(9), int64(3), int64(100), uint8(3))
	f.Add(bytes.Repeat([]byte{12, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0, 0, 0, 20, 0, 0, 0, 9, 9, 9, 9, 9, 0, 0, 0, 4, 1, 1, 1}, 5), []byte{0, 0, 1}, int64(1024), int64(1030), int64(0), int64(4000), uint8(40))
	f.Add(bytes.Repeat([]byte{3, 0, 0, 0xb0, 0x63, 4, 0, 0x91, 7, 0, 0, 0x94, 8, 0, 0, 0x54}, 9), []byte{4}, int64(4096), int64(8192), int64(0), int64(4000), uint8(0))
	p, q := New(nil), New(nil)
	f.Fuzz(func(t *testing.T, b, changes []byte, old, new, at, length int64, cut uint8) {
		limit := int64(1) << 36
		old, new, at, length = old&(limit-1), new&(limit-1), at&(limit-1), length&(limit-1)
		moves := []Move{{at, new, length}, {at + 5, old, length / 2}}
		n := max(0, min(len(b)-int(cut)%(Overhang+1), BlockSize))
		to := slices.Clone(b[:n])
		for i := range to {
			if len(changes) > 0 {
				to[i] += changes[i%len(changes)]
			}
		}
		var steps []step
		for m := range Mode(Modes) {
			for range 2 {
				steps = append(steps, step{mode: m, old: old, new: new, from: b, to: to})
				old, new = old+int64(n), new+int64(n)
			}
		}
		run(t, p, q, moves, steps, true)
	})
}
