package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/signing/publisher"
)

// Profile is a way of dividing keys among people.
type Profile string

// The profiles. Solo is one person with a spare root key in a safe; Company gives root
// to 3 of 5 people, targets to 2 of 3 and stable releases to 2 of 3.
const (
	Solo    Profile = "solo"
	Company Profile = "company"
)

const day = 24 * time.Hour

// Settings are kept in site.json.
type Settings struct {
	Format    int       `json:"format"`
	Profile   Profile   `json:"profile"`
	Lifetimes Lifetimes `json:"lifetimes"`
}

// Lifetimes say for how long each role is signed.
type Lifetimes struct {
	Root      Duration `json:"root"`
	Targets   Duration `json:"targets"`
	Releases  Duration `json:"releases"` // os-CHANNEL and app-PUBLISHER
	Fleet     Duration `json:"fleet"`
	Snapshot  Duration `json:"snapshot"`
	Timestamp Duration `json:"timestamp"` // 1 hour to 30 days
}

// Duration is a time.Duration written as "72h0m0s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// DefaultLifetimes are the ones of a new site.
func DefaultLifetimes() Lifetimes {
	return Lifetimes{
		Root: Duration(365 * day), Targets: Duration(180 * day), Releases: Duration(60 * day),
		Fleet: Duration(7 * day), Snapshot: Duration(7 * day), Timestamp: Duration(3 * day),
	}
}

// of returns the lifetime of a role.
func (l Lifetimes) of(role string) time.Duration {
	switch {
	case role == publisher.RoleRoot:
		return time.Duration(l.Root)
	case role == publisher.RoleSnapshot:
		return time.Duration(l.Snapshot)
	case role == publisher.RoleTimestamp:
		return time.Duration(l.Timestamp)
	case strings.HasPrefix(role, "os-"), strings.HasPrefix(role, "app-"):
		return time.Duration(l.Releases)
	case strings.HasPrefix(role, "fleet-"):
		return time.Duration(l.Fleet)
	}
	return time.Duration(l.Targets)
}

func (l Lifetimes) check() error {
	for _, c := range []struct {
		name      string
		got       Duration
		low, high time.Duration
	}{
		{"root", l.Root, publisher.MinRootLife, 3 * 365 * day},
		{"targets", l.Targets, 7 * day, 2 * 365 * day},
		{"releases", l.Releases, day, 2 * 365 * day},
		{"fleet", l.Fleet, time.Hour, 90 * day},
		{"snapshot", l.Snapshot, time.Hour, 90 * day},
		{"timestamp", l.Timestamp, time.Hour, 30 * day},
	} {
		if d := time.Duration(c.got); d < c.low || d > c.high {
			return fmt.Errorf("lifetime of %s: got %s, want %s to %s", c.name, d, c.low, c.high)
		}
	}
	return nil
}

// settingsFormat is the format of site.json that this code writes and reads.
const settingsFormat = 1

func (s Settings) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

func decodeSettings(b []byte) (Settings, error) {
	var s Settings
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("site.json: %w", err)
	}
	if s.Format != settingsFormat {
		return s, fmt.Errorf("site.json: format: got %d, want %d", s.Format, settingsFormat)
	}
	if err := s.Lifetimes.check(); err != nil {
		return s, fmt.Errorf("site.json: %w", err)
	}
	return s, nil
}
