package deltas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/internal/verity"
)

// spans is a dst that insists on whole spans.
type spans struct {
	bytes.Buffer
	short bool
	fault string
}

func (s *spans) Write(b []byte) (int, error) {
	if s.short || len(b) == 0 || len(b) > verity.NodeSpan {
		s.fault = "not span by span"
	}
	s.short = len(b) < verity.NodeSpan
	return s.Buffer.Write(b)
}

// blocks is a base that insists on whole blocks.
type blocks struct {
	b     []byte
	fault string
}

func (r *blocks) ReadAt(b []byte, offset int64) (int, error) {
	if offset%verity.BlockSize != 0 || len(b)%verity.BlockSize != 0 || len(b) > 1<<20 {
		r.fault = "not in whole blocks"
	}
	return bytes.NewReader(r.b).ReadAt(b, offset)
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestExecutedPlanIsTheSegment(t *testing.T) {
	var e Executor // used again and again, as a host does
	rapid.Check(t, func(t *rapid.T) {
		base := &blocks{b: noise(1, 64*verity.BlockSize)}
		length := rapid.Int64Range(1, 3*verity.NodeSpan).Draw(t, "length")
		var plan bytes.Buffer
		p := NewPlanWriter(&plan)
		var want []byte
		for left := length; left > 0; left = length - int64(len(want)) {
			n := min(left, rapid.Int64Range(1, 1<<rapid.IntRange(1, 20).Draw(t, "bits")).Draw(t, "n"))
			var err error
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				err = p.Zero(n)
				want = append(want, make([]byte, n)...)
			case 1:
				b := noise(uint64(n), int(n))
				err = p.Data(b)
				want = append(want, b...)
			default:
				n = min(n, int64(len(base.b)))
				from := rapid.Int64Range(0, int64(len(base.b))-n).Draw(t, "from")
				if rapid.Bool().Draw(t, "aligned") {
					from = from / verity.BlockSize * verity.BlockSize
				}
				err = p.Copy(from, n)
				want = append(want, base.b[from:from+n]...)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		var dst spans
		if err := e.Execute(&plan, Segment{Length: length}, base, int64(len(base.b)), &dst); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst.Bytes(), want) {
			t.Fatal("the segment differs")
		}
		if dst.fault != "" || base.fault != "" {
			t.Fatalf("dst: %q, base: %q", dst.fault, base.fault)
		}
	})
}

func TestPlanIsBoundedWhateverItSays(t *testing.T) {
	const length, baseSize = 3 * verity.BlockSize, 2 * verity.BlockSize
	const max = 1<<64 - 1
	op := func(op Op, numbers ...uint64) []byte {
		b := []byte{byte(op)}
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name string
		plan []byte
		want string
	}{
		{"empty", nil, "unexpected EOF"},
		{"too short", op(OpZero, length-1), "unexpected EOF"},
		{"too long", op(OpZero, length+1), "instruction of 12289 bytes"},
		{"overflowing zero", op(OpZero, max), "instruction of"},
		{"something behind the end", join(op(OpZero, length), op(OpZero, 1)), "behind the end"},
		{"no progress", op(OpZero, 0), "instruction of 0 bytes"},
		{"unknown instruction", op(3, length), "instruction 3 is unknown"},
		{"copy beyond the base", op(OpCopy, 1, baseSize), "base has 8192 bytes"},
		{"copy from beyond the base", op(OpCopy, baseSize+1, 1), "base has 8192 bytes"},
		{"overflowing copy", op(OpCopy, max, 2), "base has 8192 bytes"},
		{"overflowing copy length", op(OpCopy, 1, max), "instruction of"},
		{"data that ends early", append(op(OpData, length), 1, 2, 3), "unexpected EOF"},
		{"data longer than the segment", op(OpData, length+1), "instruction of"},
		{"number that does not end", bytes.Repeat([]byte{0xff}, 30), "unknown"},
		{"length that does not end", append([]byte{0}, bytes.Repeat([]byte{0xff}, 30)...), "overflow"},
		{"length cut off", []byte{0, 0x80}, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Execute(bytes.NewReader(c.plan), Segment{Length: length}, bytes.NewReader(make([]byte, baseSize)), baseSize, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	t.Run("copy without a base", func(t *testing.T) {
		if err := Execute(bytes.NewReader(op(OpCopy, 0, length)), Segment{Length: length}, nil, 0, io.Discard); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("flood of instructions", func(t *testing.T) {
		plan := bytes.Repeat(op(OpZero, 1), MaxOps+1)
		err := Execute(bytes.NewReader(plan), Segment{Length: MaxOps + 1}, nil, 0, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("got %v, want an error with %q", err, "more than")
		}
	})
	t.Run("segment beyond the limit", func(t *testing.T) {
		if err := Execute(bytes.NewReader(op(OpZero, MaxSegment+1)), Segment{Length: MaxSegment + 1}, nil, 0, io.Discard); err == nil {
			t.Error("got no error")
		}
	})
}

type broken struct{ err error }

func (b broken) ReadAt([]byte, int64) (int, error) { return 0, b.err }
func (b broken) Write([]byte) (int, error)         { return 0, b.err }
func (b broken) Read([]byte) (int, error)          { return 0, b.err }

func TestErrorsOfBasePlanAndTargetComeThrough(t *testing.T) {
	fault := errors.New("fault")
	s := Segment{Length: verity.BlockSize}
	var plan bytes.Buffer
	p := NewPlanWriter(&plan)
	_ = p.Copy(0, verity.BlockSize)
	_ = p.Flush()
	base := bytes.NewReader(make([]byte, verity.BlockSize))
	for name, err := range map[string]error{
		"base":   Execute(bytes.NewReader(plan.Bytes()), s, broken{fault}, verity.BlockSize, io.Discard),
		"plan":   Execute(broken{fault}, s, base, verity.BlockSize, io.Discard),
		"target": Execute(bytes.NewReader(plan.Bytes()), s, base, verity.BlockSize, broken{fault}),
	} {
		if !errors.Is(err, fault) {
			t.Errorf("%s: got %v, want %v", name, err, fault)
		}
	}
	if err := Execute(bytes.NewReader(plan.Bytes()), s, bytes.NewReader(nil), verity.BlockSize, io.Discard); err == nil {
		t.Error("base shorter than it should be: got no error")
	}
}

func TestExecutorReusedAllocatesNothing(t *testing.T) {
	base := bytes.NewReader(noise(1, 64*verity.BlockSize))
	var plan bytes.Buffer
	p := NewPlanWriter(&plan)
	for i := range int64(1000) {
		_ = p.Copy(i, 100)
		_ = p.Data([]byte("0123456789"))
	}
	_ = p.Flush()
	var e Executor
	r := bytes.NewReader(plan.Bytes())
	n := testing.AllocsPerRun(20, func() {
		r.Reset(plan.Bytes())
		if err := e.Execute(r, Segment{Length: 110000}, base, 64*verity.BlockSize, io.Discard); err != nil {
			t.Fatal(err)
		}
	})
	if n > 2 {
		t.Errorf("got %.0f allocations for 2000 instructions, want at most 2", n)
	}
}

func TestPaddedSourceReadsLikeTheImage(t *testing.T) {
	for _, size := range []int{0, 1, verity.BlockSize, verity.MinSize - 1, verity.MinSize, verity.MinSize + 1, 5 * verity.BlockSize} {
		b := noise(uint64(size), size)
		n := PaddedSize(int64(size))
		want := append(bytes.Clone(b), make([]byte, n-int64(size))...)
		r := Pad(bytes.NewReader(b), int64(size))
		for _, at := range []int64{0, 1, int64(size) - 1, int64(size), n - 1, n, n + 1} {
			if at < 0 {
				continue
			}
			for _, length := range []int64{1, 100, n - at, n - at + 1} {
				if length <= 0 {
					continue
				}
				got := bytes.Repeat([]byte{0xee}, int(length))
				m, err := r.ReadAt(got, at)
				wantN := max(min(length, n-at), 0)
				if int64(m) != wantN || !bytes.Equal(got[:m], want[min(at, n):][:m]) {
					t.Errorf("size %d: %d bytes at %d: got %d, want %d", size, length, at, m, wantN)
				}
				if (err != nil) != (wantN < length) && !(err == io.EOF && at+length == n) {
					t.Errorf("size %d: %d bytes at %d: %v", size, length, at, err)
				}
			}
		}
	}
}

func FuzzExecutePlan(f *testing.F) {
	const baseSize = 3 * verity.BlockSize
	base := noise(3, baseSize)
	var plan bytes.Buffer
	p := NewPlanWriter(&plan)
	_ = p.Copy(100, 5000)
	_ = p.Zero(92)
	_ = p.Data([]byte("data"))
	_ = p.Copy(verity.BlockSize, 2*verity.BlockSize)
	_ = p.Flush()
	f.Add(plan.Bytes(), uint32(13288))
	f.Add([]byte{0, 1}, uint32(1))
	f.Fuzz(func(t *testing.T, plan []byte, length uint32) {
		length %= 1 << 20
		var dst spans
		err := Execute(bytes.NewReader(plan), Segment{Length: int64(length)}, bytes.NewReader(base), baseSize, &dst)
		if err == nil && dst.Len() != int(length) || dst.Len() > int(length) || dst.fault != "" {
			t.Fatalf("got %d bytes, want %d (%v) %s", dst.Len(), length, err, dst.fault)
		}
	})
}
