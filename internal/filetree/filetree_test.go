package filetree_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/filetree"
)

var errFormat = errors.New("no such file system")

func TestNothingIsReadThatTheImageDoesNotHave(t *testing.T) {
	i := filetree.Image{From: bytes.NewReader([]byte("0123456789")), Size: 10, Format: errFormat}
	if b, err := i.Read(3, 7); err != nil || string(b) != "3456789" {
		t.Errorf("got %q, %v", b, err)
	}
	for _, c := range [][2]int64{{3, 8}, {-1, 1}, {0, -1}, {11, 0}, {math.MaxInt64, 1}, {1, math.MaxInt64}, {math.MinInt64, math.MaxInt64}} {
		if b, err := i.Read(c[0], c[1]); !errors.Is(err, errFormat) {
			t.Errorf("%v: got %q, %v, want an error about the format", c, b, err)
		}
	}
	short := filetree.Image{From: bytes.NewReader([]byte("01")), Size: 10, Format: errFormat}
	if _, err := short.Read(0, 3); err == nil || errors.Is(err, errFormat) {
		t.Errorf("an image that is cut: got %v, want an error of reading", err)
	}
	var blocks []string
	err := i.Blocks([]filetree.Extent{{Offset: 0, Length: 5}, {Offset: 8, Length: 2}}, 4, func(b []byte) error {
		blocks = append(blocks, string(b))
		return nil
	})
	if want := []string{"0123", "4", "89"}; err != nil || !slices.Equal(blocks, want) {
		t.Errorf("blocks: got %q, %v, want %q", blocks, err, want)
	}
}

func TestEachDirectoryIsVisitedOnceByNamesThatLeadNowhereElse(t *testing.T) {
	tree := filetree.NewTree(1, errFormat)
	var visited []string
	err := tree.Walk(func(node int, path string) error {
		visited = append(visited, path)
		for name, to := range map[string]int{".": node, "..": 1, "below": node + 1, "round": 1} {
			at, fresh, err := tree.Enter(path, name, to)
			if err != nil {
				return err
			}
			if fresh && to < 4 {
				tree.Push(to, at)
			}
		}
		return nil
	})
	if want := []string{"", "below", "below/below"}; err != nil || !slices.Equal(visited, want) {
		t.Errorf("got %q, %v, want %q", visited, err, want)
	}
	for _, name := range []string{"", "a/b", "/", "a\x00b", strings.Repeat("x", 5000)} {
		if _, _, err := tree.Enter("d", name, 99); !errors.Is(err, errFormat) {
			t.Errorf("%.20q: got %v, want an error about the format", name, err)
		}
	}
}
