package bsdiff40

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// pair returns two files that have much in common.
func pair(seed uint64, size int) (old, new []byte) {
	r := rand.New(rand.NewPCG(seed, 40))
	old = make([]byte, size)
	for i := range old {
		old[i] = byte(r.Uint32() >> (i / 100 % 8))
	}
	new = bytes.Clone(old)
	for range size / 500 {
		new[r.IntN(len(new))]++
	}
	if size > 1000 {
		new = append(new[size/2:], new[:size/3]...)
		new = append(new[:100:100], append([]byte(strings.Repeat("inserted", 20)), new[100:]...)...)
	}
	return old, new
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAppliedPatchIsTheNewFile(t *testing.T) {
	for seed, size := range []int{0, 1, 7, 100, 5000, 100000, 300000} {
		old, new := pair(uint64(seed), size)
		patch, err := Create(old, new, Limits{})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got, err := Apply(old, patch, Limits{})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, new) {
			t.Errorf("%d bytes: the new file differs", size)
		}
	}
}

func TestAnyBspatchAppliesOurPatch(t *testing.T) {
	needs.Tools(t, "bspatch")
	for seed, size := range []int{0, 1, 100, 5000, 300000} {
		old, new := pair(uint64(seed), size)
		patch, err := Create(old, new, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "new")
		run(t, "bspatch", write(t, "old", old), out, write(t, "patch", patch))
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, new) {
			t.Errorf("%d bytes: the new file differs (%v)", size, err)
		}
	}
}

func TestPatchOfAnyBsdiffIsApplied(t *testing.T) {
	needs.Tools(t, "bsdiff")
	for seed, size := range []int{1, 100, 5000, 300000} { // Debian's bsdiff cannot map an empty file
		old, new := pair(uint64(seed), size)
		out := filepath.Join(t.TempDir(), "patch")
		run(t, "bsdiff", write(t, "old", old), write(t, "new", new), out)
		patch, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Apply(old, patch, Limits{})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, new) {
			t.Errorf("%d bytes: the new file differs", size)
		}
	}
}

func TestFilesBeyondTheLimitsAreRefused(t *testing.T) {
	old, new := pair(1, 5000)
	patch, err := Create(old, new, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []Limits{{Old: 4999}, {New: int64(len(new)) - 1}, {Patch: int64(len(patch)) - 1}} {
		if _, err := Apply(old, patch, l); err == nil {
			t.Errorf("apply within %+v: got no error", l)
		}
	}
	for _, l := range []Limits{{Old: 4999}, {New: int64(len(new)) - 1}} {
		if _, err := Create(old, new, l); err == nil {
			t.Errorf("create within %+v: got no error", l)
		}
	}
}

func TestDamagedPatchIsAnErrorOrMakesAFileOfTheRightSize(t *testing.T) {
	old, new := pair(2, 3000)
	patch, err := Create(old, new, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range patch {
		if got, err := Apply(old, patch[:n], Limits{}); err == nil && !bytes.Equal(got, new) {
			t.Fatalf("truncated to %d bytes: another file and no error", n)
		}
	}
	for i := range patch {
		for _, flip := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(patch)
			b[i] ^= flip
			if got, err := Apply(old, b, Limits{New: 1 << 20}); err == nil && len(got) > 1<<20 {
				t.Fatalf("byte %d: %d bytes", i, len(got))
			}
		}
	}
}

// step is one triple of a control stream.
type step struct{ add, insert, seek int64 }

// forge returns a patch with the given control stream and empty other streams.
func forge(t *testing.T, newSize int64, steps ...step) []byte {
	t.Helper()
	var control []byte
	for _, s := range steps {
		for _, v := range []int64{s.add, s.insert, s.seek} {
			control = appendNumber(control, v)
		}
	}
	coded := compress(t, control)
	b := appendNumber([]byte(Magic), int64(len(coded)))
	b = appendNumber(b, 14)
	b = appendNumber(b, newSize)
	b = append(b, coded...)
	b = append(b, compress(t, nil)...)
	return append(b, compress(t, nil)...)
}

func appendNumber(b []byte, v int64) []byte {
	if v < 0 {
		return binary.LittleEndian.AppendUint64(b, uint64(-v)|1<<63)
	}
	return binary.LittleEndian.AppendUint64(b, uint64(v))
}

func compress(t *testing.T, b []byte) []byte {
	t.Helper()
	needs.Tools(t, "bzip2")
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestHostileControlStreamIsRefusedBeforeTheLibrarySeesIt(t *testing.T) {
	const max = 1<<63 - 1
	idle := make([]step, 100000)
	for _, c := range []struct {
		name    string
		newSize int64
		steps   []step
		want    string
	}{
		{"negative add", 10, []step{{-1, 11, 0}}, "lengths"},
		{"negative insert", 10, []step{{11, -1, 0}}, "lengths"},
		{"add beyond the new file", 10, []step{{11, 0, 0}}, "lengths"},
		{"sum that overflows", 10, []step{{1, max, 0}}, "lengths"},
		{"add beyond the old file", 300, []step{{101, 199, 0}}, "reads 101 bytes"},
		{"seek before the old file", 20, []step{{0, 1, -5}, {19, 0, 0}}, "at -5"},
		{"seek that overflows", 20, []step{{0, 1, max}, {19, 0, 0}}, "seeks"},
		{"steps without progress", 10, idle, "more than 17 steps"},
		{"too few steps", 10, []step{{1, 0, 0}}, "EOF"},
		{"too many steps", 1, []step{{1, 0, 0}, {1, 0, 0}}, "goes on"},
		{"new file beyond the limit", 1 << 40, nil, "at most"},
		{"negative new file", -1, nil, "new file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Apply(make([]byte, 100), forge(t, c.newSize, c.steps...), Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func FuzzBsdiff40(f *testing.F) {
	for seed, size := range []int{0, 1, 300} {
		old, new := pair(uint64(seed), size)
		patch, err := Create(old, new, Limits{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(old, patch)
	}
	f.Fuzz(func(t *testing.T, old, patch []byte) {
		limits := Limits{Old: 1 << 16, New: 1 << 16, Patch: 1 << 16}
		new, err := Apply(old, patch, limits)
		if err != nil {
			return
		}
		if h, err := ParseHeader(patch); err != nil || int64(len(new)) != h.NewSize {
			t.Errorf("got %d bytes, header says %d (%v)", len(new), h.NewSize, err)
		}
	})
}
