package signing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxDepth  = 16 // of nested objects and arrays; TUF needs 6
	maxNumber = 24 // characters of a number literal
	// In strict mode a file may hold one value for each so many bytes, and spareValues
	// more. TUF's own documents need 24 bytes and more for a value. Without this limit four
	// mebibytes of "0,0,0" would cost the parser behind it two hundred times their size.
	bytesPerValue = 16
	spareValues   = 256
)

// scan refuses JSON that two parsers could read differently, or that makes a parser
// work harder than its size: invalid UTF-8, deep nesting, a name twice in one object,
// endless numbers and, if strict, null (no field of ours may be null), names that differ
// only in case (encoding/json takes them for the same field), and far more values than
// metadata of that size holds.
//
// It does not judge syntax beyond what it needs: what passes is still parsed by
// encoding/json, which reads well-formed text just as scan does.
func scan(b []byte, strict bool) error {
	if !utf8.Valid(b) {
		return errors.New("json: invalid UTF-8")
	}
	s := scanner{b: b, strict: strict}
	if err := s.value(0); err != nil {
		return fmt.Errorf("json: byte %d: %w", s.i, err)
	}
	if s.space(); s.i < len(s.b) {
		return fmt.Errorf("json: byte %d: trailing data", s.i)
	}
	return nil
}

type scanner struct {
	b      []byte
	i      int
	values int
	strict bool
}

// peek returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\t' || c == '\r' || c == '\n'; c = s.peek() {
		s.i++
	}
}

// value reads a value that lies within depth objects and arrays.
func (s *scanner) value(depth int) error {
	if s.values++; s.strict && s.values > len(s.b)/bytesPerValue+spareValues {
		return fmt.Errorf("more than %d values in %d bytes", s.values-1, len(s.b))
	}
	s.space()
	switch c := s.peek(); {
	case (c == '{' || c == '[') && depth >= maxDepth:
		return fmt.Errorf("nested deeper than %d", maxDepth)
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.array(depth)
	case c == '"':
		_, err := s.str()
		return err
	case c == 't' || c == 'f' || c == 'n':
		return s.word()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	return errors.New("want a value")
}

func (s *scanner) object(depth int) error {
	names := nameSet{fold: s.strict}
	s.i++
	if s.space(); s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		s.space()
		name, err := s.str()
		if err != nil {
			return err
		}
		if !names.add(name) {
			return fmt.Errorf("name %.80q twice in one object", name)
		}
		if s.space(); s.peek() != ':' {
			return errors.New("want a colon")
		}
		s.i++
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if more, err := s.more('}'); !more {
			return err
		}
	}
}

func (s *scanner) array(depth int) error {
	s.i++
	if s.space(); s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if more, err := s.more(']'); !more {
			return err
		}
	}
}

// more reads the comma between two elements, or the end.
func (s *scanner) more(end byte) (bool, error) {
	s.space()
	switch s.peek() {
	case ',':
		s.i++
		return true, nil
	case end:
		s.i++
		return false, nil
	}
	return false, fmt.Errorf("want a comma or %q", end)
}

// str reads a string and returns its value.
func (s *scanner) str() ([]byte, error) {
	if s.peek() != '"' {
		return nil, errors.New("want a string")
	}
	start, escaped := s.i, false
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			escaped = true
			s.i++
		case '"':
			s.i++
			if !escaped {
				return s.b[start+1 : s.i-1], nil
			}
			var v string
			err := json.Unmarshal(s.b[start:s.i], &v)
			return []byte(v), err
		}
	}
	return nil, errors.New("string without an end")
}

func (s *scanner) word() error {
	for _, w := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(w)) {
			if s.strict && w == "null" {
				return errors.New("null")
			}
			s.i += len(w)
			return nil
		}
	}
	return errors.New("want a value")
}

func (s *scanner) number() error {
	start := s.i
	for c := s.peek(); c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E' || c >= '0' && c <= '9'; c = s.peek() {
		s.i++
	}
	if n := s.i - start; n > maxNumber {
		return fmt.Errorf("number of %d characters, want at most %d", n, maxNumber)
	}
	return nil
}

// nameSet holds the names of one object. Most objects have few, and those few are
// compared in place; only maps with many names cost memory.
type nameSet struct {
	fold bool
	few  [][]byte
	many map[string]struct{}
}

// add reports whether name is new.
func (n *nameSet) add(name []byte) bool {
	if n.many == nil {
		for _, have := range n.few {
			if bytes.Equal(have, name) || n.fold && bytes.EqualFold(have, name) {
				return false
			}
		}
		n.few = append(n.few, name)
		if len(n.few) > 8 {
			n.many = make(map[string]struct{}, 64)
			for _, have := range n.few {
				n.many[n.key(have)] = struct{}{}
			}
			n.few = nil
		}
		return true
	}
	k := n.key(name)
	_, have := n.many[k]
	n.many[k] = struct{}{}
	return !have
}

func (n *nameSet) key(name []byte) string {
	if n.fold {
		// Upper before lower: that folds the long s and the Kelvin sign as well.
		return strings.ToLower(strings.ToUpper(string(name)))
	}
	return string(name)
}
