package release

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// DirectiveFormat is the directive format that this code writes and reads.
const DirectiveFormat = 1

// MaxDirectiveSize bounds an encoded directive, in bytes.
const MaxDirectiveSize = 16 << 10

// Directive says which release of a channel a fleet shall run and how far the rollout
// has come. It only chooses among signed releases, delays, or halts.
// Source of the format: docs/FORMAT.md, "Directive".
type Directive struct {
	Format    int       `json:"format"`
	Channel   string    `json:"channel"`
	Version   Version   `json:"version"`
	Permille  int       `json:"permille"` // share of hosts that may install, 0 to 1000
	Salt      string    `json:"salt"`     // makes the order of hosts another one for each release
	NotBefore time.Time `json:"notBefore"`
	Paused    bool      `json:"paused"`
	// ComeDown asks hosts that run a withdrawn, newer version to go to Version.
	ComeDown     bool   `json:"comeDown"`
	PollInterval string `json:"pollInterval"` // a Go duration such as "30m", or "" for the host's own
}

// DirectiveName is the TUF target name of a fleet's directive.
func DirectiveName(fleet string) string { return "fleet/" + fleet + "/directive.json" }

// Encode returns the canonical bytes of d, or why d is not a valid directive.
func (d *Directive) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("encode directive: %w", err)
	}
	return encode(d)
}

// DecodeDirective reads a canonical directive.
func DecodeDirective(b []byte) (*Directive, error) {
	var d Directive
	if err := decode(b, MaxDirectiveSize, &d); err != nil {
		return nil, fmt.Errorf("directive: %w", err)
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("directive: %w", err)
	}
	return &d, nil
}

// Validate reports the first thing in d that no valid directive says.
func (d *Directive) Validate() error {
	if d.Format != DirectiveFormat {
		return fmt.Errorf("format: got %d, want %d", d.Format, DirectiveFormat)
	}
	if err := CheckName("channel", d.Channel); err != nil {
		return err
	}
	if d.Version.IsZero() {
		return fmt.Errorf("version is missing")
	}
	if d.Permille < 0 || d.Permille > 1000 {
		return fmt.Errorf("permille: got %d, want 0 to 1000", d.Permille)
	}
	if len(d.Salt) > 64 {
		return fmt.Errorf("salt: got %d characters, want at most 64", len(d.Salt))
	}
	if d.NotBefore.Location() != time.UTC {
		return fmt.Errorf("notBefore %s: want UTC", d.NotBefore)
	}
	if d.PollInterval != "" {
		p, err := time.ParseDuration(d.PollInterval)
		if err != nil || p < time.Minute || p > 7*24*time.Hour {
			return fmt.Errorf("pollInterval %q: want a duration from 1m to 168h", d.PollInterval)
		}
	}
	return nil
}

// Bucket places a host: a number from 0 to 999 that depends on nothing but the
// directive's salt and the host's id, so that no server has to be asked.
func Bucket(salt, hostID string) int {
	h := sha256.New()
	h.Write([]byte(salt))
	h.Write([]byte{0})
	h.Write([]byte(hostID))
	return int(binary.BigEndian.Uint64(h.Sum(nil)[:8]) % 1000)
}

// Includes reports whether the host is within the share that may install. Raising
// Permille never takes a host out.
func (d *Directive) Includes(hostID string) bool { return Bucket(d.Salt, hostID) < d.Permille }
