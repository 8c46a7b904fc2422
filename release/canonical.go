package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// encode returns the one canonical encoding of v: compact JSON, fields in the order
// of their declaration, map keys sorted, no HTML escaping, no final newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decode reads b into v and refuses everything that encode would not have written:
// unknown, repeated or reordered fields, other spellings of a number, trailing bytes.
func decode(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("got %d bytes, want at most %d", len(b), limit)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("trailing bytes after offset %d", d.InputOffset())
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("not in canonical form: differs at byte %d", firstDifference(again, b))
	}
	return nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
