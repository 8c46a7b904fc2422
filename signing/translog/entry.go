package translog

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/twinkeel/twinkeel/release"
)

// maxEntry bounds one entry in bytes: two names, a version, a digest and their labels.
const maxEntry = 1024

// entryHead is the first line of an entry. Other kinds of entries would have another.
const entryHead = "twinkeel release 1"

// Entry is one release in one channel. Several releases of one version differ in their
// manifests: an attempt that was raised, or a publication that was cut short.
type Entry struct {
	Channel    string
	Compatible string
	Version    release.Version
	Manifest   release.Digest // SHA-256 of the manifest as it is listed
}

// Encode returns the one spelling of an entry: five lines of "label value".
func (e Entry) Encode() []byte {
	return fmt.Appendf(nil, "%s\nchannel %s\ncompatible %s\nversion %s\nmanifest %s\n",
		entryHead, e.Channel, e.Compatible, e.Version, e.Manifest)
}

// ParseEntry reads an entry; every spelling but Encode's is refused.
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) > maxEntry {
		return e, fmt.Errorf("log entry: got %d bytes, want at most %d", len(b), maxEntry)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 6 || lines[0] != entryHead || lines[5] != "" {
		return e, fmt.Errorf("log entry: want %q and four more lines", entryHead)
	}
	var values [4]string
	for i, label := range []string{"channel", "compatible", "version", "manifest"} {
		value, ok := strings.CutPrefix(lines[i+1], label+" ")
		if !ok {
			return e, fmt.Errorf("log entry: line %d: want %s", i+2, label)
		}
		values[i] = value
	}
	e.Channel, e.Compatible = values[0], values[1]
	var err error
	if err = release.CheckName("channel", e.Channel); err != nil {
		return e, fmt.Errorf("log entry: %w", err)
	}
	if err = release.CheckName("compatible", e.Compatible); err != nil {
		return e, fmt.Errorf("log entry: %w", err)
	}
	if e.Version, err = release.ParseVersion(values[2]); err != nil {
		return e, fmt.Errorf("log entry: %w", err)
	}
	if e.Manifest, err = release.ParseDigest(values[3]); err != nil {
		return e, fmt.Errorf("log entry: %w", err)
	}
	if string(e.Encode()) != string(b) {
		return e, fmt.Errorf("log entry: is not in its one spelling")
	}
	return e, nil
}

// Leaf is the entry's hash in the Merkle tree (RFC 6962).
func (e Entry) Leaf() release.Digest { return release.Digest(tlog.RecordHash(e.Encode())) }

// String says what the entry is about.
func (e Entry) String() string {
	return fmt.Sprintf("%s of %s for %s, manifest %s", e.Version, e.Channel, e.Compatible, e.Manifest.Short())
}

// EntryOf returns the entry of the release whose manifest is the target called name and
// has the given digest; ok is false for targets that are no release.
func EntryOf(name string, manifest release.Digest) (e Entry, ok bool) {
	p := strings.Split(name, "/")
	if len(p) != 4 || p[0] != "os" {
		return e, false
	}
	v, err := release.ParseVersion(strings.TrimSuffix(p[3], ".json"))
	if err != nil || release.TargetName(p[1], p[2], v) != name {
		return e, false
	}
	return Entry{Channel: p[1], Compatible: p[2], Version: v, Manifest: manifest}, true
}
