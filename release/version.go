package release

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Version is one to four dotted integers, compared number by number; absent trailing
// numbers count as zero, so 1.2 and 1.2.0 are equal in order but not in spelling.
// The zero value stands for "no version".
type Version struct {
	n     [4]uint32
	parts uint8
}

// ParseVersion reads "2026.11.21.1" and the like: no sign, no leading zero, no space.
func ParseVersion(s string) (Version, error) {
	var v Version
	fields := strings.Split(s, ".")
	if len(fields) > len(v.n) {
		return Version{}, fmt.Errorf("version %.80q: got %d numbers, want 1 to %d", s, len(fields), len(v.n))
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil || n > math.MaxInt32 || f != strconv.FormatUint(n, 10) {
			return Version{}, fmt.Errorf("version %.80q: %.40q is not an integer from 0 to %d without leading zeros", s, f, math.MaxInt32)
		}
		v.n[i] = uint32(n)
	}
	v.parts = uint8(len(fields))
	return v, nil
}

// IsZero reports whether v is "no version".
func (v Version) IsZero() bool { return v.parts == 0 }

// Compare returns -1, 0 or +1; "no version" is lower than every version.
func (v Version) Compare(w Version) int {
	if v.IsZero() != w.IsZero() {
		if v.IsZero() {
			return -1
		}
		return 1
	}
	for i := range v.n {
		if v.n[i] != w.n[i] {
			if v.n[i] < w.n[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// String returns the spelling that was parsed, or "" for no version.
func (v Version) String() string {
	var b strings.Builder
	for i := range int(v.parts) {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.FormatUint(uint64(v.n[i]), 10))
	}
	return b.String()
}

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is "no version".
func (v *Version) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*v = Version{}
		return nil
	}
	p, err := ParseVersion(string(b))
	if err == nil {
		*v = p
	}
	return err
}
