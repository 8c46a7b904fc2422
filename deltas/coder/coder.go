package coder

import (
	"errors"
	"fmt"
	"io"
)

// Kind says what a stream holds, and so how it is modelled. The numbers are part of the
// format.
type Kind uint8

const (
	// Instructions holds operation bytes and varints, as a payload lists them.
	Instructions Kind = iota
	// Literals holds new bytes, programs and data, or the number of a predictor per block.
	Literals
	// Difference holds new bytes less old ones: mostly zero.
	Difference
	kinds
)

// MaxLength is how many bytes a stream can hold at most.
const MaxLength = 16 << 20

// ErrLength is wrapped by errors about streams of more than MaxLength bytes.
var ErrLength = errors.New("stream is too long")

// model predicts one kind of stream. It encodes the whole of b, or decodes as many bytes
// into b as it has room for.
type model interface {
	reset(t *tables, n int)
	code(rc *rangeCoder, b []byte) error
}

func newModel(kind Kind) model {
	switch kind {
	case Instructions:
		return new(records)
	case Literals:
		return new(literals)
	}
	return new(sparse)
}

// Encoder encodes streams. The zero value is ready; one that is used again reuses its
// memory. It is not safe for concurrent use.
type Encoder struct {
	tables *tables
	models [kinds]model
}

// Encode returns the code of b. It is an error if b is longer than MaxLength, or is of
// the kind Instructions and not a list of such, with every number in its shortest form.
func (e *Encoder) Encode(kind Kind, b []byte) ([]byte, error) {
	if err := check(kind, len(b)); err != nil {
		return nil, fmt.Errorf("encode stream: %w", err)
	}
	if len(b) == 0 {
		return nil, nil
	}
	if e.tables == nil {
		e.tables = newTables()
	}
	if e.models[kind] == nil {
		e.models[kind] = newModel(kind)
	}
	rc := newEncoder(len(b)/8 + 16)
	e.models[kind].reset(e.tables, len(b))
	if err := e.models[kind].code(&rc, b); err != nil {
		return nil, fmt.Errorf("encode stream: %w", err)
	}
	return rc.finish(), nil
}

func check(kind Kind, n int) error {
	switch {
	case kind >= kinds:
		return fmt.Errorf("kind %d is unknown", kind)
	case n < 0 || n > MaxLength:
		return fmt.Errorf("%w: got %d bytes, want at most %d", ErrLength, n, MaxLength)
	}
	return nil
}

// Decoder decodes one stream after the other, piece by piece. The zero value has an
// empty stream; one that is used again reuses its memory. It is not safe for concurrent use.
type Decoder struct {
	tables *tables
	models [kinds]model
	model  model // of the stream
	rc     rangeCoder
	left   int // bytes of the stream that are not yet read
}

// Reset makes d read the n bytes that code is the code of. It takes at most 4 MiB for
// streams of each kind, whatever they hold.
func (d *Decoder) Reset(kind Kind, code []byte, n int) error {
	d.left = 0
	if err := check(kind, n); err != nil {
		return fmt.Errorf("decode stream: %w", err)
	}
	if n == 0 {
		if len(code) > 0 {
			return fmt.Errorf("decode stream: got %d bytes for an empty stream", len(code))
		}
		return nil
	}
	if d.tables == nil {
		d.tables = newTables()
	}
	if d.models[kind] == nil {
		d.models[kind] = newModel(kind)
	}
	d.left, d.model, d.rc = n, d.models[kind], newDecoder(code)
	d.model.reset(d.tables, n)
	return nil
}

// Read fills b with the next bytes of the stream, or with its last; behind them it
// returns io.EOF. It takes time that follows len(b). It is an error when the code ends too
// early for the bytes read, or at the end of the stream too late; other damage may give
// wrong bytes instead, which the caller has to tell by their digest.
func (d *Decoder) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if d.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(len(b), d.left)]
	err := d.model.code(&d.rc, b)
	d.left -= len(b)
	if err == nil && d.rc.cut {
		err = errCut
	}
	if err == nil && d.left == 0 {
		err = d.rc.end()
	}
	if err != nil {
		d.left = 0
		return 0, fmt.Errorf("decode stream: %w", err)
	}
	return len(b), nil
}
