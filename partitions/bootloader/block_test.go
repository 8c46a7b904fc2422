package bootloader

import (
	"errors"
	"io"
	"testing"
)

// flaky is a block of which the first reads fail.
type flaky struct {
	fails int
	end   bool // instead of an error there is less than was asked for
}

func (f *flaky) ReadAt(p []byte, _ int64) (int, error) {
	if f.end {
		return len(p) - 1, io.EOF
	}
	if f.fails--; f.fails >= 0 {
		return 0, errors.New("medium error")
	}
	return len(p), nil
}
func (f *flaky) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (f *flaky) Flush() error                       { return errors.ErrUnsupported }

func TestAReadErrorThatPassesIsNoDamage(t *testing.T) {
	for name, c := range map[string]struct {
		block *flaky
		n     int
		fails bool
	}{
		"whole":      {&flaky{}, 8, false},
		"fails once": {&flaky{fails: 1}, 8, false},
		"fails":      {&flaky{fails: 2}, 0, true},
		"ends early": {&flaky{end: true}, 7, true},
	} {
		n, err := ReadBlock(c.block, make([]byte, 8), 0)
		if n != c.n || (err != nil) != c.fails {
			t.Errorf("%s: got %d, %v; want %d, failure: %t", name, n, err, c.n, c.fails)
		}
	}
}
