package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// errDead is what every effect of a run returns from its death on.
var errDead = errors.New("the machine is off")

// mortal is a medium that dies at a given effect: that one and all after it do not
// happen. With lose set, death is a power cut that also takes back what was not synced:
// renames, new files and removals in directories that were not, and the content of files.
type mortal struct {
	medium
	left int // effects until death
	lose bool
	dead bool
	log  []string

	undo     map[string][]func() // by directory
	unsynced map[string]string   // written files: name at creation to name now
}

func newMortal(left int, lose bool) *mortal {
	return &mortal{medium: osMedium{}, left: left, lose: lose, undo: map[string][]func(){}, unsynced: map[string]string{}}
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
	if !m.lose {
		return
	}
	for _, path := range m.unsynced {
		_ = os.Truncate(path, 0)
	}
	for _, list := range m.undo {
		for i := len(list) - 1; i >= 0; i-- {
			list[i]()
		}
	}
}

func (m *mortal) pending(dir string, undo func()) { m.undo[dir] = append(m.undo[dir], undo) }

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
	delete(m.undo, path)
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
func killEverywhere(t *testing.T, lose bool, prepare func(*Site), operation func(*Site) error, before, after string) {
	t.Helper()
	base, c := newSite(t)
	prepare(base)
	base.Close()
	for n := 0; ; n++ {
		dir := filepath.Join(t.TempDir(), "site")
		copyTree(t, base.dir, dir)
		s := openSite(t, dir, c)
		known := newHost(t, s, c)
		known.accept(t, s, before)
		m := newMortal(n, lose)
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
			return
		}
		at := m.log[len(m.log)-1]
		s = openSite(t, dir, c)
		d, lookErr := newHost(t, s, c).look(t.Context(), served(s.RepositoryDir()), "stable")
		if lookErr != nil {
			t.Fatalf("death %d at %q: a new host refuses the repository: %v", n, at, lookErr)
		}
		saw := d.Version.String()
		if saw != before && saw != after {
			t.Fatalf("death %d at %q: a new host sees %s", n, at, saw)
		}
		known.accept(t, s, saw)
		if err := operation(s); err != nil && !errors.Is(err, ErrNothingToDo) {
			t.Fatalf("death %d at %q: the run after it: %v", n, at, err)
		}
		known.accept(t, s, after)
		mustVerify(t, s)
		s.Close()
		os.RemoveAll(dir)
	}
}

func TestPublishKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	for name, lose := range map[string]bool{"process": false, "power": true} {
		t.Run(name, func(t *testing.T) {
			first := randomImage(t, 300_000, 1)
			second := changedImage(t, first, 100_000)
			killEverywhere(t, lose,
				func(s *Site) { mustPublish(t, s, releaseOf(t, "1.0", first)) },
				func(s *Site) error { _, err := s.Publish(t.Context(), releaseOf(t, "1.1", second)); return err },
				"1.0", "1.1")
		})
	}
}

func TestWithdrawKilledAtAnyEffectLeavesOldOrNewState(t *testing.T) {
	image := randomImage(t, 20_000, 1)
	killEverywhere(t, true,
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
	killEverywhere(t, true,
		func(s *Site) { mustPublish(t, s, releaseOf(t, "1.0", image)) },
		func(s *Site) error {
			_, err := s.Export(t.Context(), ExportOptions{Channel: "stable", Life: DefaultBundleLife, Output: filepath.Join(t.TempDir(), "bundle")})
			return err
		},
		"1.0", "1.0")
}
