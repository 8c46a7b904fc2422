package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/signing/publisher"
)

// Options are what a Site takes from the world around it.
type Options struct {
	Now        func() time.Time     // nil: the system's clock
	Passphrase publisher.Passphrase // nil: encrypted keys stay closed
	Keys       []string             // private key files, or NAME://KEY, beside those in keys/
	Plugins    publisher.Plugins    // for keys that live in devices and services
	Log        *slog.Logger         // nil: nothing is logged
	// Progress, if not nil, gets the progress of long steps, in bytes.
	Progress func(step string, done, total int64)
}

// Site is a directory with keys and a repository. Its methods must not be called
// concurrently.
type Site struct {
	dir      string
	state    durable.Dir
	medium   medium
	settings Settings
	opt      Options
	unlock   func()
}

// ErrBusy means that another process works on the site.
var ErrBusy = errors.New("another process works on this site")

// ErrNothingToDo means that everything asked for is so already.
var ErrNothingToDo = errors.New("nothing to do")

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	return o
}

// Open opens a site for changing it and keeps other processes from doing so until Close.
func Open(dir string, o Options) (*Site, error) {
	s, err := OpenReadOnly(dir, o)
	if err != nil {
		return nil, err
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenReadOnly opens a site for looking. As publications are atomic, it may be done at
// any time.
func OpenReadOnly(dir string, o Options) (*Site, error) {
	state, err := durable.OpenDir(dir, false)
	if err != nil {
		return nil, fmt.Errorf("open site: %w", err)
	}
	b, err := state.Read("site.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open site %s: it has no site.json; make one with init", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open site: %w", err)
	}
	settings, err := decodeSettings(b)
	if err != nil {
		return nil, fmt.Errorf("open site %s: %w", dir, err)
	}
	return &Site{dir: dir, state: state, medium: osMedium{}, settings: settings, opt: o.withDefaults()}, nil
}

func (s *Site) lock() error {
	unlock, err := s.state.Lock()
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("open site %s: %w", s.dir, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("open site: %w", err)
	}
	s.unlock = unlock
	return s.clearStaging()
}

// Close lets other processes in.
func (s *Site) Close() {
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
}

// clearStaging removes the unfinished files of runs that died.
func (s *Site) clearStaging() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "staging", "*.tmp"))
	if err != nil {
		return fmt.Errorf("clear staging: %w", err)
	}
	for _, name := range names {
		if err := s.medium.Remove(name); err != nil {
			return fmt.Errorf("clear staging: %w", err)
		}
	}
	return nil
}

// RepositoryDir is what has to be served.
func (s *Site) RepositoryDir() string { return filepath.Join(s.dir, "repository") }

func (s *Site) repo(path string) string {
	return filepath.Join(s.dir, "repository", filepath.FromSlash(path))
}

func (s *Site) staging(name string) string { return filepath.Join(s.dir, "staging", name) }

func (s *Site) ring() (*publisher.Ring, error) {
	ring, err := publisher.OpenRing(s.opt.Passphrase, filepath.Join(s.dir, "keys"), filepath.Join(s.dir, "keys", "spare"))
	if err != nil {
		return nil, err
	}
	ring.Plugins = s.opt.Plugins
	for _, path := range s.opt.Keys {
		if _, err := ring.Add(path); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

func (s *Site) expires(role string) time.Time {
	return s.opt.Now().Add(s.settings.Lifetimes.of(role))
}

func (s *Site) online() publisher.Online {
	return publisher.Online{Now: s.opt.Now(), Snapshot: s.expires(publisher.RoleSnapshot), Timestamp: s.expires(publisher.RoleTimestamp)}
}

// metadata opens the published metadata.
func (s *Site) metadata() (*publisher.Set, error) {
	set, err := publisher.Open(metadataDir{s.repo("metadata")})
	if gone(err) {
		if _, noTimestamp := os.Stat(s.repo("metadata/timestamp.json")); gone(noTimestamp) {
			return nil, fmt.Errorf("the repository has no timestamp: if it has never had one, its first proposal waits for `proposal apply`: %w", err)
		}
	}
	return set, err
}

// metadataDir is a publisher.Source.
type metadataDir struct{ path string }

func (d metadataDir) Metadata(name string, limit int64) ([]byte, error) {
	return readFile(filepath.Join(d.path, name), limit)
}

func (d metadataDir) MetadataNames() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: got more than %d bytes", path, limit)
	}
	return b, nil
}

// record appends a line to history.jsonl. It comes after the deed: what history tells has
// happened, and a power cut in between loses the line, not the deed.
func (s *Site) record(action string, what any) error {
	line, err := json.Marshal(struct {
		Time   time.Time `json:"time"`
		Action string    `json:"action"`
		What   any       `json:"what"`
	}{s.opt.Now().UTC().Truncate(time.Second), action, what})
	if err != nil {
		return fmt.Errorf("record %s: %w", action, err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "history.jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("record %s: %w", action, err)
	}
	_, err = f.Write(append(line, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("record %s: %w", action, err)
	}
	s.opt.Log.Info("done", "action", action)
	return nil
}
