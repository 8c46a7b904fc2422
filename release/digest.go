package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256 value. Its text form is 64 lower-case hexadecimal digits.
type Digest [sha256.Size]byte

// DigestOf returns the SHA-256 of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the text form and refuses every other spelling.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("digest %.80q: got %d characters, want %d", s, len(s), 2*len(d))
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return d, fmt.Errorf("digest %q: character %d is not a lower-case hexadecimal digit", s, i)
		}
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err
}

// IsZero reports whether d is the zero value, which stands for "no digest".
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the text form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first twelve digits, for people.
func (d Digest) Short() string { return d.String()[:12] }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	p, err := ParseDigest(string(b))
	if err == nil {
		*d = p
	}
	return err
}
