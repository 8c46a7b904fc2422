package decode

import (
	"errors"
	"io"

	"github.com/twinkeel/twinkeel/deltas"
)

// Decode is a Decoder used once.
func Decode(payload []byte, s deltas.Segment, base io.ReaderAt, w io.Writer) error {
	return errors.New("decode: not available")
}
