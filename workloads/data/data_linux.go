package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/quota"
)

// Limits of a copy. They are checked before anything is stopped.
const (
	lookTime    = 2 * time.Minute // that looking at what is to be copied may take
	perSecond   = 40 << 20        // bytes that a slow disk copies in a second
	filesPerSec = 2000            // files that it makes in a second
	maxEntries  = 1 << 20         // files and directories of a generation
	maxDepth    = 128
	reserve     = 16 << 20 // bytes that stay free
)

// Dir is the data of all applications of a host.
type Dir struct {
	path string
}

// Open returns the data in path, and makes that directory if need be.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("open app data: %w", err)
	}
	return &Dir{path}, syncDir(filepath.Dir(path))
}

// newPrefix begins the name of what is being made, oldPrefix of what is being removed.
const (
	newPrefix = ".new-"
	oldPrefix = ".old-"
)

func check(names ...string) error {
	for _, n := range names {
		if err := durable.CheckFileName(n); err != nil {
			return fmt.Errorf("app data: %w", err)
		}
	}
	return nil
}

func (d *Dir) generations(app string) string { return filepath.Join(d.path, app, "gen") }

// Apps lists the apps of which there is anything.
func (d *Dir) Apps() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list app data: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && check(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Generations lists what there is of an app, the oldest first.
func (d *Dir) Generations(app string) ([]workloads.Generation, error) {
	if err := check(app); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.generations(app))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list app data: %w", err)
	}
	var list []workloads.Generation
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		st, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("list app data: %w", err)
		}
		list = append(list, workloads.Generation{Name: e.Name(), Made: st.ModTime()})
	}
	slices.SortStableFunc(list, func(x, y workloads.Generation) int { return x.Made.Compare(y.Made) })
	return list, nil
}

// CheckClone reports why Clone of all that is named would not come to its end: for lack of
// room, or within a time.
func (d *Dir) CheckClone(ctx context.Context, within time.Duration, from ...workloads.Origin) error {
	var files, copied, bytes int64 // of all; of those whose blocks cannot be shared
	for _, o := range from {
		if err := check(o.App, o.Generation); err != nil {
			return err
		}
		size, n, err := measure(ctx, filepath.Join(d.generations(o.App), o.Generation))
		if err != nil {
			return fmt.Errorf("app %s: %w", o.App, err)
		}
		files += n
		if !d.reflinks(o.App) {
			copied, bytes = copied+n, bytes+size
		}
	}
	if took := time.Duration(bytes/perSecond+copied/filesPerSec) * time.Second; copied > 0 && took > within {
		return fmt.Errorf("a copy of %d bytes in %d files may take %s, allowed are %s: use xfs or btrfs for snapshots", bytes, copied, took, within)
	}
	free, err := free(d.path)
	if need := bytes + files*4096; err == nil && free-reserve < need {
		err = fmt.Errorf("a copy needs %d bytes, %d are free and %d stay so: %w", need, free, reserve, workloads.ErrNoRoom)
	}
	return err
}

// free is how many bytes may still be written to the file system that holds path.
func free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("room for data: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reflinks tries whether the file system shares blocks between files.
func (d *Dir) reflinks(app string) bool {
	dir := d.generations(app)
	a, err := os.CreateTemp(dir, newPrefix+"probe")
	if err != nil {
		return false
	}
	defer a.Close()
	defer os.Remove(a.Name())
	b, err := os.CreateTemp(dir, newPrefix+"probe")
	if err != nil {
		return false
	}
	defer b.Close()
	defer os.Remove(b.Name())
	if _, err := a.Write(make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil
}

// Clone durably makes generation to a copy of from, or an empty one if from is "". One
// that is there is left as it is.
func (d *Dir) Clone(ctx context.Context, app, from, to string) error {
	if err := check(app, to); err != nil {
		return err
	}
	dir := d.generations(app)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	final, made := filepath.Join(dir, to), filepath.Join(dir, newPrefix+to)
	if _, err := os.Lstat(final); err == nil {
		// It may have been renamed by a process that died before the sync.
		return syncDir(dir)
	}
	if err := os.RemoveAll(made); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	if err := os.Mkdir(made, 0o711); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	if from != "" {
		if err := check(from); err != nil {
			return err
		}
		if err := copyTree(ctx, filepath.Join(dir, from), made); err != nil {
			return errors.Join(fmt.Errorf("copy data of app %s: %w", app, err), os.RemoveAll(made))
		}
	}
	if err := os.Chtimes(made, time.Time{}, time.Now()); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	if err := syncTree(made); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	if err := os.Rename(made, final); err != nil {
		return fmt.Errorf("make app data: %w", err)
	}
	for _, p := range []string{dir, filepath.Dir(dir), d.path} {
		if err := syncDir(p); err != nil {
			return fmt.Errorf("make app data: %w", err)
		}
	}
	return nil
}

// Volumes returns the directory of each volume of a generation that is there, and makes
// those that are missing.
func (d *Dir) Volumes(app, generation string, m *release.AppManifest) (map[string]string, error) {
	if err := check(app, generation); err != nil {
		return nil, err
	}
	versioned := filepath.Join(d.generations(app), generation)
	if st, err := os.Lstat(versioned); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("data of app %s: generation %s is not there: %w", app, generation, errors.Join(err, fs.ErrNotExist))
	}
	shared := filepath.Join(d.path, app, "shared")
	dirs := map[string]string{}
	for _, v := range m.Data {
		parent := shared
		if v.Class == "versioned" {
			parent = versioned
		}
		path, err := volume(parent, v.Name, int(m.Run.UID), int(m.Run.GID))
		if err != nil {
			return nil, fmt.Errorf("volume %s of app %s: %w", v.Name, app, err)
		}
		dirs[v.Name] = path
	}
	return dirs, nil
}

// volume returns a directory below parent, made durably for its user if it is not there.
func volume(parent, name string, uid, gid int) (string, error) {
	if err := check(name); err != nil {
		return "", err
	}
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return "", err
	}
	path := filepath.Join(parent, name)
	st, err := os.Lstat(path)
	if err == nil {
		if !st.IsDir() {
			return "", fmt.Errorf("%s is no directory", path)
		}
		return path, nil
	}
	made := filepath.Join(parent, newPrefix+name)
	if err := os.RemoveAll(made); err != nil {
		return "", err
	}
	if err := quota.Mkdir(made, 0o700); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(made, uid, gid); err != nil {
			return "", err
		}
	}
	if err := errors.Join(syncDir(made), os.Rename(made, path), syncDir(parent), syncDir(filepath.Dir(parent))); err != nil {
		return "", err
	}
	return path, nil
}

// Remove drops a generation; one that is not there is no error. A removal that was
// interrupted is not seen any more.
func (d *Dir) Remove(app, generation string) error {
	if err := check(app, generation); err != nil {
		return err
	}
	dir := d.generations(app)
	gone := filepath.Join(dir, oldPrefix+generation)
	err := os.Rename(filepath.Join(dir, generation), gone)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove app data: %w", err)
	}
	if err == nil {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("remove app data: %w", err)
		}
	}
	entries, err := os.ReadDir(gone)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove app data: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := quota.Lift(filepath.Join(gone, e.Name())); err != nil {
			return fmt.Errorf("remove app data: %w", err)
		}
	}
	err = os.RemoveAll(gone)
	if errors.Is(err, unix.EROFS) {
		if err = quota.Thaw(gone); err == nil {
			err = os.RemoveAll(gone)
		}
	}
	if err != nil {
		return fmt.Errorf("remove app data: %w", err)
	}
	return nil
}

// syncDir makes names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
