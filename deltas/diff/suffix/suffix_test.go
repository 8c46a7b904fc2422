package suffix

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func naive(text []byte) []int32 {
	sa := make([]int32, len(text))
	for i := range sa {
		sa[i] = int32(i)
	}
	slices.SortFunc(sa, func(a, b int32) int { return bytes.Compare(text[a:], text[b:]) })
	return sa
}

func fibonacci(n int) string {
	a, b := "a", "ab"
	for len(b) < n {
		a, b = b, b+a
	}
	return b
}

func TestSuffixesAreInOrder(t *testing.T) {
	texts := []string{"", "a", "aa", "ab", "ba", "mississippi", "\x00", "\xff\xff\x00", strings.Repeat("ab", 500), strings.Repeat("\x00", 777), fibonacci(2000)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		b := make([]byte, r.IntN(200))
		letters := 1 + i%5
		if i%7 == 0 {
			letters = 256
		}
		for j := range b {
			b[j] = byte(r.IntN(letters))
		}
		texts = append(texts, string(b))
	}
	for _, text := range texts {
		if got, want := Sort([]byte(text)), naive([]byte(text)); !slices.Equal(got, want) {
			t.Fatalf("%.50q: got %.50v, want %.50v", text, got, want)
		}
	}
}

func TestLongestMatchAtAMultipleOfStepIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	var x Index
	found := 0
	for range 3000 {
		text, b := make([]byte, r.IntN(300)), make([]byte, r.IntN(30))
		for _, x := range [][]byte{text, b} {
			for j := range x {
				x[j] = byte(r.IntN(2) * r.IntN(2))
			}
		}
		want := 0
		for i := 0; i < len(text); i += Step {
			want = max(want, min(20, Common(text[i:], b)))
		}
		if want < Least {
			want = 0
		} else {
			found++
		}
		x.Reset(text)
		at, got := x.Find(b, 20)
		if got != want || !bytes.Equal(text[at:at+got], b[:got]) {
			t.Fatalf("%q in %q: got %d at %d, want %d", b, text, got, at, want)
		}
	}
	if found < 100 {
		t.Errorf("only %d of the samples have a match", found)
	}
}

func FuzzSort(f *testing.F) {
	f.Add([]byte("mississippi"))
	f.Add(bytes.Repeat([]byte("abcab"), 20))
	f.Fuzz(func(t *testing.T, text []byte) {
		text = text[:min(len(text), 2000)]
		if !slices.Equal(Sort(text), naive(text)) {
			t.Errorf("%q: not sorted", text)
		}
	})
}
