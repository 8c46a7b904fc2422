package child

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
)

// decodeSegment writes the plan of a segment. A decoder that panics has met a payload
// that its publisher signed by mistake; that is an error of the payload, not ours.
func decodeSegment(d *decode.Decoder, payload []byte, s deltas.Segment, base *os.File, w io.Writer) (err error) {
	defer func() {
		if r := recover(); r != nil {
			*d = decode.Decoder{} // whose state nobody knows now
			err = fail(wire.CodeCorrupt, "decode segment at %d: %v", s.Offset, r)
		}
	}()
	var from io.ReaderAt // stays a nil interface without a base
	if base != nil {
		from = base
	}
	to := &remember{w: w}
	if err := d.Decode(payload, s, from, to); err != nil {
		if to.err != nil {
			return to.err
		}
		var path *os.PathError
		if errors.As(err, &path) {
			return fail(wire.CodeUnavailable, "decode segment at %d: base: %v", s.Offset, path.Err)
		}
		return fail(wire.CodeCorrupt, "%v", err)
	}
	return nil
}

// remember tells a writer's error from a decoder's.
type remember struct {
	w   io.Writer
	err error
}

func (r *remember) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil {
		r.err = fmt.Errorf("plan: %w", err)
	}
	return n, err
}
