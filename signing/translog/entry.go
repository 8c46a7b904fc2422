package translog

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/twinkeel/twinkeel/release"
)

// maxEntry bounds one entry in bytes: two names, a version, a digest and their labels.
const maxEntry = 1024

// The first lines of the kinds of entries: a release in a channel, and one of an
// application. Other kinds would have others.
const (
	entryHead    = "twinkeel release 1"
	appEntryHead = "twinkeel app 1"
)

// Entry is one release in one channel, or one of an application, whose Publisher and Name
// are then set in place of Channel and Compatible. Several releases of one version differ in
// their manifests: an attempt that was raised, or a publication that was cut short.
type Entry struct {
	Channel    string
	Compatible string
	Publisher  string
	Name       string
	Version    release.Version
	Manifest   release.Digest // SHA-256 of the manifest as it is listed
}

// IsApp reports whether the entry is about an application.
func (e Entry) IsApp() bool { return e.Publisher != "" }

// Encode returns the one spelling of an entry: five lines of "label value".
func (e Entry) Encode() []byte {
	if e.IsApp() {
		return fmt.Appendf(nil, "%s\npublisher %s\nname %s\nversion %s\nmanifest %s\n",
			appEntryHead, e.Publisher, e.Name, e.Version, e.Manifest)
	}
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
	if len(lines) != 6 || lines[0] != entryHead && lines[0] != appEntryHead || lines[5] != "" {
		return e, fmt.Errorf("log entry: want %q or %q and four more lines", entryHead, appEntryHead)
	}
	labels, names := []string{"channel", "compatible"}, []*string{&e.Channel, &e.Compatible}
	if lines[0] == appEntryHead {
		labels, names = []string{"publisher", "name"}, []*string{&e.Publisher, &e.Name}
	}
	var values [4]string
	for i, label := range append(labels, "version", "manifest") {
		value, ok := strings.CutPrefix(lines[i+1], label+" ")
		if !ok {
			return e, fmt.Errorf("log entry: line %d: want %s", i+2, label)
		}
		values[i] = value
	}
	for i, name := range names {
		*name = values[i]
		if err := release.CheckName(labels[i], *name); err != nil {
			return e, fmt.Errorf("log entry: %w", err)
		}
	}
	var err error
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
	if e.IsApp() {
		return fmt.Sprintf("app %s/%s %s, manifest %s", e.Publisher, e.Name, e.Version, e.Manifest.Short())
	}
	return fmt.Sprintf("%s of %s for %s, manifest %s", e.Version, e.Channel, e.Compatible, e.Manifest.Short())
}

// EntryOf returns the entry of the release, of the OS or an application, whose manifest is
// the target called name and has the given digest; ok is false for targets that are none.
func EntryOf(name string, manifest release.Digest) (e Entry, ok bool) {
	p := strings.Split(name, "/")
	if len(p) != 4 {
		return e, false
	}
	v, err := release.ParseVersion(strings.TrimSuffix(p[3], ".json"))
	switch {
	case err != nil:
		return e, false
	case p[0] == "os" && release.TargetName(p[1], p[2], v) == name:
		return Entry{Channel: p[1], Compatible: p[2], Version: v, Manifest: manifest}, true
	case p[0] == "apps" && release.AppTargetName(p[1], p[2], v) == name:
		return Entry{Publisher: p[1], Name: p[2], Version: v, Manifest: manifest}, true
	}
	return e, false
}
