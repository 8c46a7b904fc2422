package grub

import (
	"bytes"
	"fmt"
	"strings"
)

// BlockSize is the size of an environment block in bytes. GRUB never resizes one.
const BlockSize = 1024

// sector is the unit in which a disk writes a block.
const sector = 512

// signature begins every environment block.
const signature = "# GRUB Environment Block\n"

// Env is an environment block: variables, and whatever else is in it, in their order.
// It is read exactly as GRUB 2.06 reads it (lib/envblk.c), so that this package never
// sees a value that the loader does not see.
type Env struct {
	entries []entry
}

// entry is one line: a variable, or a comment, whose name is empty.
type entry struct {
	name  string
	value string
	raw   string // as it is in the block, with its newline
}

// ParseEnv reads a block. What follows the last whole line is padding, or damage that
// GRUB does not read either, and is dropped.
func ParseEnv(b []byte) (*Env, error) {
	if len(b) != BlockSize {
		return nil, fmt.Errorf("GRUB environment: got %d bytes, want %d", len(b), BlockSize)
	}
	if !bytes.HasPrefix(b, []byte(signature)) {
		return nil, fmt.Errorf("GRUB environment: signature is missing")
	}
	e := &Env{}
	text := string(b)
	for p := len(signature); p < len(b); {
		end, eq := lineEnd(b, p)
		if end < 0 {
			break
		}
		line := entry{raw: text[p : end+1]}
		if eq >= 0 {
			line.name, line.value = text[p:eq], unescape(text[eq+1:end])
		}
		e.entries = append(e.entries, line)
		p = end + 1
	}
	return e, nil
}

// lineEnd returns where the newline of the line at p is, and where its '=' is, or -1.
// A backslash takes the next byte with it, but not in a name, which runs to the first
// '=' whatever is in between: so GRUB reads it.
func lineEnd(b []byte, p int) (end, eq int) {
	eq = -1
	if b[p] != '#' {
		n := bytes.IndexByte(b[p:], '=')
		if n < 0 {
			return -1, -1
		}
		eq = p + n
		p = eq + 1
	}
	for ; p < len(b); p++ {
		switch b[p] {
		case '\n':
			return p, eq
		case '\\':
			p++
		}
	}
	return -1, -1
}

func unescape(b string) string {
	if strings.IndexByte(b, '\\') < 0 {
		return b
	}
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		s.WriteByte(b[i])
	}
	return s.String()
}

func escape(value string) string {
	if !strings.ContainsAny(value, "\\\n") {
		return value
	}
	return strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(value)
}

// Get returns the value of a variable. Of two that have one name, GRUB keeps the last.
func (e *Env) Get(name string) (value string, ok bool) {
	for _, l := range e.entries {
		if l.name == name && l.name != "" {
			value, ok = l.value, true
		}
	}
	return value, ok
}

// Variable is a name and its value.
type Variable struct {
	Name, Value string
}

// SetFirst puts the given variables before everything else in the block, and removes
// all others for which mine is true. The rest stays as it is, byte for byte.
func (e *Env) SetFirst(vars []Variable, mine func(name string) bool) error {
	var first []entry
	for _, v := range vars {
		if v.Name == "" || v.Name[0] == '#' || strings.ContainsAny(v.Name, "=\n\\") {
			return fmt.Errorf("GRUB environment: %.40q is not a name of a variable", v.Name)
		}
		first = append(first, entry{v.Name, v.Value, v.Name + "=" + escape(v.Value) + "\n"})
	}
	for _, l := range e.entries {
		if l.name == "" || !mine(l.name) {
			first = append(first, l)
		}
	}
	e.entries = first
	return nil
}

// Encode returns the 1024 bytes of the block, or an error if they do not suffice.
func (e *Env) Encode() ([]byte, error) {
	b := append(make([]byte, 0, BlockSize), signature...)
	for _, l := range e.entries {
		b = append(b, l.raw...)
	}
	if len(b) > BlockSize {
		return nil, fmt.Errorf("GRUB environment: %d bytes, want at most %d", len(b), BlockSize)
	}
	return append(b, strings.Repeat("#", BlockSize-len(b))...), nil
}
