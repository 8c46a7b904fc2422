package partitions

import "fmt"

// Slot is one of the two places that can hold a whole system.
type Slot uint8

// The two slots.
const (
	A Slot = iota
	B
)

// Slots lists both, in order.
var Slots = [2]Slot{A, B}

// Other returns the other slot.
func (s Slot) Other() Slot { return s ^ 1 }

// String returns "a" or "b".
func (s Slot) String() string {
	switch s {
	case A:
		return "a"
	case B:
		return "b"
	}
	return fmt.Sprintf("slot(%d)", uint8(s))
}

// ParseSlot reads "a" or "b".
func ParseSlot(s string) (Slot, error) {
	switch s {
	case "a":
		return A, nil
	case "b":
		return B, nil
	}
	return 0, fmt.Errorf("slot %.20q: want a or b", s)
}

// MarshalText implements encoding.TextMarshaler.
func (s Slot) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Slot) UnmarshalText(b []byte) error {
	p, err := ParseSlot(string(b))
	if err == nil {
		*s = p
	}
	return err
}
