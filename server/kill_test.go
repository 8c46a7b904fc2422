package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// errDead is what every effect of a run returns from its death on.
var errDead = errors.New("the machine is off")

// death is what the end of a run takes with it.
type death int

const (
	kill      death = iota // nothing: the process is gone, the machine goes on
	powerCut               // all that was not synced: entries of directories, contents of files
	reordered              // the same, but the newest entry had reached the disk before the others
)

// mortal is a medium that dies at a given effect: that one and all after it do not happen.
type mortal struct {
	medium
	left  int // effects until death
	death death
	dead  bool
	log   []string

	undo     []change          // not synced yet, oldest first
	unsynced map[string]string // written files: name at creation to name now
}

// change is a change of a directory that a power cut may take back.
type change struct {
	dir  string
	undo func()
}

func newMortal(left int, d death) *mortal {
	return &mortal{medium: osMedium{}, left: left, death: d, unsynced: map[string]string{}}
}

func (m *mortal) effect(what, path string) error {
	if m.dead {
		return errDead
	}
	m.log = append(m.log, what+" "+filepath.Base(path))
	if m.left == 0 {
		m.die()
		return errDead
	}
	m.left--
	return nil
}

func (m *mortal) die() {
	m.dead = true
	if m.death == kill {
		return
	}
	for _, path := range m.unsynced {
		_ = os.Truncate(path, 0)
	}
	lost := m.undo
	if m.death == reordered && len(lost) > 0 {
		lost = lost[:len(lost)-1]
	}
	for _, c := range slices.Backward(lost) {
		c.undo()
	}
}

func (m *mortal) pending(dir string, undo func()) { m.undo = append(m.undo, change{dir, undo}) }

func (m *mortal) Create(path string, mode fs.FileMode) (spool, error) {
	if err := m.effect("create", path); err != nil {
		return nil, err
	}
	f, err := m.medium.Create(path, mode)
	if err != nil {
		return nil, err
	}
	m.pending(filepath.Dir(path), func() { os.Remove(path) })
	return &mortalFile{spool: f, m: m, path: path}, nil
}

func (m *mortal) Rename(from, to string) error {
	if err := m.effect("rename", to); err != nil {
		return err
	}
	old, readErr := os.ReadFile(to)
	if err := m.medium.Rename(from, to); err != nil {
		return err
	}
	for origin, now := range m.unsynced {
		if now == from {
			m.unsynced[origin] = to
		}
	}
	m.pending(filepath.Dir(to), func() {
		if readErr == nil {
			_ = os.WriteFile(to, old, 0o644)
		} else {
			os.Remove(to)
		}
	})
	return nil
}

func (m *mortal) Remove(path string) error {
	if err := m.effect("remove", path); err != nil {
		return err
	}
	old, readErr := os.ReadFile(path)
	if err := m.medium.Remove(path); err != nil {
		return err
	}
	m.pending(filepath.Dir(path), func() {
		if readErr == nil {
			_ = os.WriteFile(path, old, 0o644)
		}
	})
	return nil
}

func (m *mortal) Mkdir(path string, mode fs.FileMode) error {
	if _, err := os.Stat(path); err == nil {
		return fs.ErrExist
	}
	if err := m.effect("mkdir", path); err != nil {
		return err
	}
	m.pending(filepath.Dir(path), func() { os.RemoveAll(path) })
	return m.medium.Mkdir(path, mode)
}

func (m *mortal) SyncDir(path string) error {
	if err := m.effect("sync directory", path); err != nil {
		return err
	}
	m.undo = slices.DeleteFunc(m.undo, func(c change) bool { return c.dir == path })
	return m.medium.SyncDir(path)
}

// mortalFile counts a file's first write, which death tears, and its syncs.
type mortalFile struct {
	spool
	m       *mortal
	path    string
	written bool
}

func (f *mortalFile) Write(b []byte) (int, error) {
	if f.m.dead {
		return 0, errDead
	}
	if !f.written {
		f.written = true
		f.m.unsynced[f.path] = f.path
		if err := f.m.effect("write", f.path); err != nil {
			_, _ = f.spool.Write(b[:len(b)/2])
			return 0, err
		}
	}
	return f.spool.Write(b)
}

func (f *mortalFile) Sync() error {
	if err := f.m.effect("sync", f.path); err != nil {
		return err
	}
	delete(f.m.unsynced, f.path)
	return f.spool.Sync()
}

// killEverywhere runs an operation that dies at its first effect, at its second, and so
// on until it survives, each time on a fresh copy of the same site. After every death a
// host that knew the old state, and one that knows nothing, must see the old or the new
// version, whole; then the operation runs again and must succeed.
func killEverywhere(t *testing.T, d death, prepare func(*Site), operation func(*Site) error, before, after string) {
	t.Helper()
	seen := sight{(*host).directive, func(h *host, t *testing.T, s *Site) string {
		t.Helper()
		v := h.directive(t, s)
		h.accept(t, s, v)
		return v
	}}
	killEverywhereSeen(t, d, seen, prepare, operation, before, after)
}

// sight is how a host sees the version that a site offers: one that knows nothing at its
// first glance, and one that has known it before, with everything that belongs to it.
type sight struct {
	glance, whole func(h *host, t *testing.T, s *Site) string
}

// directive is the version of the OS that a host is offered.
func (h *host) directive(t *testing.T, s *Site) string {
	t.Helper()
	d, err := h.look(t.Context(), served(s.RepositoryDir()), "stable")
	if err != nil || d == nil {
		t.Fatalf("host: got directive %+v, %v", d, err)
	}
	return d.Version.String()
}

func (see sight) wants(t *testing.T, h *host, s *Site, version string) {
	t.Helper()
	if got := see.whole(h, t, s); got != version {
		t.Fatalf("host: got %s, want %s", got, version)
	}
}

// killEverywhereSeen is killEverywhere for what see sees.
func killEverywhereSeen(t *testing.T, d death, see sight, prepare func(*Site), operation func(*Site) error, before, after string) {
	t.Helper()
	base, c := newSite(t)
	prepare(base)
	base.Close()
	for n := 0; ; n++ {
		dir := filepath.Join(t.TempDir(), "site")
		copyTree(t, base.dir, dir)
		s := openSite(t, dir, c)
		known := newHost(t, s, c)
		see.wants(t, known, s, before)
		m := newMortal(n, d)
		s.medium = m
		err := operation(s)
		s.Close()
		if !m.dead {
			if err != nil {
				t.Fatalf("without a death: %v", err)
			}
			if n < 10 {
				t.Fatalf("the operation has only %d effects: the seam is blind", n)
			}
			t.Logf("%d deaths: %s", n, strings.Join(m.log, ", "))
			m.die() // what was reported as done is done for good
			s = openSite(t, dir, c)
			see.wants(t, known, s, after)
			mustVerify(t, s)
			return
		}
		at := m.log[len(m.log)-1]
		s = openSite(t, dir, c)
		t.Logf("death %d at %q", n, at)
		saw := see.glance(newHost(t, s, c), t, s)
		if saw != before && saw != after {
			t.Fatalf("a new host sees %s", saw)
		}
		see.wants(t, known, s, saw)
		if err := operation(s); err != nil && !errors.Is(err, ErrNothingToDo) {
			t.Fatalf("death %d at %q: the run after it: %v", n, at, err)
		}
		see.wants(t, known, s, after)
		mustVerify(t, s)
		s.Close()
		os.RemoveAll(dir)
	}
}

func TestPublishKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	for name, d := range map[string]death{"killed": kill, "power cut": powerCut, "reordered": reordered} {
		t.Run(name, func(t *testing.T) {
			first := randomImage(t, 30_000, 1)
			second := changedImage(t, first, 10_000)
			killEverywhere(t, d,
				func(s *Site) { mustPublish(t, s, releaseOf(t, "1.0", first)) },
				func(s *Site) error {
					in := releaseOf(t, "1.1", second)
					in.BlocksFrom = 1
					_, err := s.Publish(t.Context(), in)
					return err
				},
				"1.0", "1.1")
		})
	}
}

func TestWithdrawKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	image := randomImage(t, 20_000, 1)
	killEverywhere(t, reordered,
		func(s *Site) {
			mustPublish(t, s, releaseOf(t, "1.0", image))
			mustPublish(t, s, releaseOf(t, "1.1", changedImage(t, image, 5000)))
		},
		func(s *Site) error {
			_, err := s.Withdraw(t.Context(), WithdrawOptions{Channel: "stable", Version: version(t, "1.1"), Reason: "bad", ComeDown: true})
			if err != nil && strings.Contains(err.Error(), "no release") {
				return ErrNothingToDo // it was withdrawn before the death
			}
			return err
		},
		"1.1", "1.0")
}

func TestExportKilledAtAnyEffectLeavesHostsAbleToFollow(t *testing.T) {
	image := randomImage(t, 20_000, 1)
	killEverywhere(t, reordered,
		func(s *Site) { mustPublish(t, s, releaseOf(t, "1.0", image)) },
		func(s *Site) error {
			_, err := s.Export(t.Context(), ExportOptions{Channel: "stable", Life: DefaultBundleLife, Output: filepath.Join(t.TempDir(), "bundle")})
			return err
		},
		"1.0", "1.0")
}
