package coder

import (
	"errors"
	"fmt"
)

// Kind says what a stream holds, and so how it is modelled. The numbers are part of the
// format.
type Kind uint8

const (
	// Control holds instructions: operation bytes and varints.
	Control Kind = iota
	// Modes holds the number of a predictor per block.
	Modes
	// Difference holds new bytes less old ones: mostly zero.
	Difference
	// Literals holds new bytes: programs and data.
	Literals
	kinds
)

// MaxLength is how many bytes a stream can hold at most.
const MaxLength = 16 << 20

// ErrLength is wrapped by errors about streams of more than MaxLength bytes.
var ErrLength = errors.New("stream is too long")

// Encode returns the code of at most MaxLength bytes. It panics on more, and on a kind
// that does not exist: both are mistakes of the caller, not of data.
func Encode(kind Kind, b []byte) []byte {
	if kind >= kinds || len(b) > MaxLength {
		panic(fmt.Sprintf("coder: encode kind %d: %d bytes", kind, len(b)))
	}
	if len(b) == 0 {
		return nil
	}
	rc := newEncoder(len(b)/8 + 16)
	_ = run(rc, kind, b)
	return rc.finish()
}

// Decode returns the n bytes that b is the code of.
func Decode(kind Kind, b []byte, n int) ([]byte, error) {
	if n < 0 || n > MaxLength {
		return nil, fmt.Errorf("decode stream: %w: got %d bytes, want at most %d", ErrLength, n, MaxLength)
	}
	out := make([]byte, n)
	if err := DecodeInto(kind, out, b); err != nil {
		return nil, err
	}
	return out, nil
}

// DecodeInto fills out with the bytes that b is the code of. Whatever b is, it takes time
// that follows len(out), and memory of 8 MiB. It is an error when out is longer than
// MaxLength, and when b ends too early or too late for it; other damage may give wrong
// bytes instead, which the caller has to tell by their digest.
func DecodeInto(kind Kind, out, b []byte) error {
	switch n := len(out); {
	case kind >= kinds:
		return fmt.Errorf("decode stream: kind %d is unknown", kind)
	case n > MaxLength:
		return fmt.Errorf("decode stream: %w: got %d bytes, want at most %d", ErrLength, n, MaxLength)
	case n == 0 && len(b) == 0:
		return nil
	case n == 0:
		return fmt.Errorf("decode stream: got %d bytes for an empty stream", len(b))
	}
	rc := newDecoder(b)
	if err := run(rc, kind, out); err != nil {
		return fmt.Errorf("decode stream: %w", err)
	}
	if err := rc.end(); err != nil {
		return fmt.Errorf("decode stream: %w", err)
	}
	return nil
}

// run encodes b, or decodes as many bytes into it.
func run(rc *rangeCoder, kind Kind, b []byte) error {
	if kind == Difference {
		return newSparseModel(len(b)).run(rc, b)
	}
	m := newByteModel(len(b), len(b))
	var history contexts = &rows{}
	if kind == Control {
		history = &numbers{}
	}
	last := byte(0)
	for i := range b {
		if rc.cut {
			return errCut
		}
		history.set(&m.context, b[:i])
		last = m.code(rc, b[i], last)
		b[i] = last
		m.match.follow(b[:i+1])
	}
	return nil
}
