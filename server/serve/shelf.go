package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxRole is the greatest size of a role's metadata in bytes.
const maxRole = 4 << 20

// shelf is a prometheus.Collector of what the repository holds now: the expiry and
// version of each role, and the releases of each channel. It reads metadata without verifying it:
// it reports what is on the shelf, and hosts decide what that is worth.
type shelf struct {
	root *os.Root
	log  *slog.Logger

	expiry, version, releases, signed, logSize *prometheus.Desc

	mu    sync.Mutex
	known map[string]*document // by path; versioned files never change
}

// document is what a role's metadata says.
type document struct {
	Signed struct {
		Version int64
		Expires time.Time
		// SignedAt stands in the timestamp only.
		SignedAt time.Time
		Meta     map[string]struct{ Version int64 }
		Targets  map[string]json.RawMessage
	}
	targets int
}

func newShelf(root *os.Root, log *slog.Logger) *shelf {
	return &shelf{
		root: root, log: log, known: map[string]*document{},
		expiry:   prometheus.NewDesc("twinkeel_metadata_expiry_timestamp_seconds", "When the metadata of a role expires, as Unix time.", []string{"role"}, nil),
		version:  prometheus.NewDesc("twinkeel_metadata_version", "Version of the metadata of a role.", []string{"role"}, nil),
		releases: prometheus.NewDesc("twinkeel_releases", "Releases that a channel offers.", []string{"channel"}, nil),
		signed:   prometheus.NewDesc("twinkeel_timestamp_signed_timestamp_seconds", "When the timestamp was signed, as Unix time. It is overdue once more than half of the time to its expiry is over.", nil, nil),
		logSize:  prometheus.NewDesc("twinkeel_log_entries", "Entries of the release log.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *shelf) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.expiry
	ch <- s.version
	ch <- s.releases
	ch <- s.signed
	ch <- s.logSize
}

// Collect implements prometheus.Collector. A role that cannot be read is missing.
func (s *shelf) Collect(ch chan<- prometheus.Metric) {
	if size, ok := s.logEntries(); ok {
		ch <- prometheus.MustNewConstMetric(s.logSize, prometheus.GaugeValue, float64(size))
	}
	roles, err := s.roles()
	if err != nil {
		s.log.Warn("metadata cannot be read", "error", err)
	}
	for role, d := range roles {
		ch <- prometheus.MustNewConstMetric(s.expiry, prometheus.GaugeValue, float64(d.Signed.Expires.Unix()), role)
		ch <- prometheus.MustNewConstMetric(s.version, prometheus.GaugeValue, float64(d.Signed.Version), role)
		if at := d.Signed.SignedAt; role == "timestamp" && !at.IsZero() {
			ch <- prometheus.MustNewConstMetric(s.signed, prometheus.GaugeValue, float64(at.Unix()))
		}
		if channel, ok := strings.CutPrefix(role, "os-"); ok {
			ch <- prometheus.MustNewConstMetric(s.releases, prometheus.GaugeValue, float64(d.targets), channel)
		}
	}
}

// logEntries reads the size out of the log's checkpoint; ok is false without a log.
func (s *shelf) logEntries() (size int64, ok bool) {
	f, _, err := openRegular(s.root, "log/checkpoint")
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	lines := strings.SplitN(string(b), "\n", 3)
	if err != nil || len(lines) < 3 {
		return 0, false
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	return size, err == nil
}

// roles reads the current metadata of every role, from the timestamp on.
func (s *shelf) roles() (map[string]*document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	roles, paths := map[string]*document{}, map[string]bool{}
	var faults []error
	read := func(role, path string) *document {
		d, err := s.read(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", path, err))
			return &document{}
		}
		roles[role], paths[path] = d, true
		return d
	}
	if n := s.newestRoot(); n > 0 {
		read("root", fmt.Sprintf("metadata/%d.root.json", n))
	}
	stamp := read("timestamp", timestampPath)
	delete(paths, timestampPath)
	if m, ok := stamp.Signed.Meta["snapshot.json"]; ok {
		snapshot := read("snapshot", fmt.Sprintf("metadata/%d.snapshot.json", m.Version))
		for file, m := range snapshot.Signed.Meta {
			role, ok := strings.CutSuffix(file, ".json")
			path := fmt.Sprintf("metadata/%d.%s.json", m.Version, role)
			if ok && metadataName.MatchString(path) {
				read(role, path)
			}
		}
	}
	for path := range s.known {
		if !paths[path] {
			delete(s.known, path)
		}
	}
	return roles, errors.Join(faults...)
}

func (s *shelf) read(path string) (*document, error) {
	if d := s.known[path]; d != nil {
		return d, nil
	}
	f, _, err := openRegular(s.root, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	d := new(document)
	if err := json.NewDecoder(io.LimitReader(f, maxRole)).Decode(d); err != nil {
		return nil, err
	}
	d.targets, d.Signed.Targets = len(d.Signed.Targets), nil
	s.known[path] = d
	return d, nil
}

// newestRoot returns the highest version of root that is there, or 0.
func (s *shelf) newestRoot() (newest int64) {
	entries, err := fs.ReadDir(s.root.FS(), "metadata")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), ".root.json")
		n, err := strconv.ParseInt(text, 10, 64)
		if ok && err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}
