package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// Global is the GUID of the variables that the UEFI specification defines.
const Global = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// Loader is the GUID of the variables that systemd-boot and its like define.
const Loader = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// The attributes of a variable.
const (
	NonVolatile = 1 << iota
	BootService
	Runtime
)

// MaxSize bounds a variable, in bytes.
const MaxSize = 64 << 10

// Variable is a variable's content.
type Variable struct {
	Attributes uint32
	Value      []byte
}

// Parse reads what a file in efivarfs holds.
func Parse(b []byte) (Variable, error) {
	if len(b) < 4 || len(b) > MaxSize {
		return Variable{}, fmt.Errorf("UEFI variable: got %d bytes, want 4 to %d", len(b), MaxSize)
	}
	return Variable{binary.LittleEndian.Uint32(b), b[4:]}, nil
}

// Encode returns what a file in efivarfs holds.
func (v Variable) Encode() []byte {
	return append(binary.LittleEndian.AppendUint32(nil, v.Attributes), v.Value...)
}

// ParseOrder reads the value of BootOrder, or, being a list of one, of BootNext or
// BootCurrent: the numbers of entries.
func ParseOrder(value []byte) ([]uint16, error) {
	if len(value)%2 != 0 {
		return nil, fmt.Errorf("UEFI boot order: got %d bytes, want an even number", len(value))
	}
	order := make([]uint16, len(value)/2)
	for i := range order {
		order[i] = binary.LittleEndian.Uint16(value[2*i:])
	}
	return order, nil
}

// EncodeOrder returns the value of BootOrder or BootNext.
func EncodeOrder(order ...uint16) []byte {
	var b []byte
	for _, n := range order {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

// EntryName is the name of the variable of boot entry n.
func EntryName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// ParseText reads a value that is a text: UTF-16, ended by a zero.
func ParseText(value []byte) (string, error) {
	s, rest, err := text(value)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("UEFI text: %d bytes behind its end", len(rest))
	}
	return s, err
}

// text returns the text that b begins with, and what follows it.
func text(b []byte) (s string, rest []byte, err error) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units)), b[2:], nil
		}
		units = append(units, u)
	}
	return "", nil, errors.New("UEFI text: has no end")
}

// EncodeText returns s as the value of a variable.
func EncodeText(s string) []byte { return EncodeOrder(append(utf16.Encode([]rune(s)), 0)...) }

// Entry is the value of a boot entry (EFI_LOAD_OPTION).
type Entry struct {
	Attributes  uint32 // bit 0: active
	Description string
	Path        []byte // device paths, which are kept as they are
	Data        []byte // handed to what is started
}

// ParseEntry reads the value of a boot entry.
func ParseEntry(value []byte) (Entry, error) {
	var e Entry
	if len(value) < 6 {
		return e, fmt.Errorf("UEFI boot entry: got %d bytes, want at least 6", len(value))
	}
	e.Attributes = binary.LittleEndian.Uint32(value)
	paths := int(binary.LittleEndian.Uint16(value[4:]))
	description, rest, err := text(value[6:])
	if err != nil {
		return e, fmt.Errorf("UEFI boot entry: %w", err)
	}
	if paths > len(rest) {
		return e, fmt.Errorf("UEFI boot entry: got %d bytes of device paths, want %d", len(rest), paths)
	}
	e.Description, e.Path, e.Data = description, rest[:paths], rest[paths:]
	return e, nil
}

// Encode returns the value of the entry.
func (e Entry) Encode() ([]byte, error) {
	if len(e.Path) > 0xffff {
		return nil, fmt.Errorf("UEFI boot entry: got %d bytes of device paths, want at most %d", len(e.Path), 0xffff)
	}
	b := binary.LittleEndian.AppendUint32(nil, e.Attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Path)))
	b = append(b, EncodeText(e.Description)...)
	return append(append(b, e.Path...), e.Data...), nil
}
