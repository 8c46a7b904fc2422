package mount

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// image writes a file with its verity root.
func image(t *testing.T, b []byte) (string, release.Image) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img := release.Image{Size: int64(len(b))}
	if img.Root, err = verity.Root(f, img.Size, img.Salt); err != nil {
		t.Fatal(err)
	}
	return path, img
}

func TestAnImageThatAnybodyCouldHaveChangedIsRefused(t *testing.T) {
	block := make([]byte, 8192)
	for want, change := range map[string]func(path string) string{
		"verity root":        func(p string) string { return write(t, p, 4095, 1) },
		"want a regular":     func(p string) string { return filepath.Dir(p) },
		"bytes, want":        func(p string) string { return truncated(t, p) },
		"too many levels":    func(p string) string { return linked(t, p) },
		"nobody else writes": func(p string) string { return chmod(t, p, 0o666) },
	} {
		path, img := image(t, block)
		if err := Image(change(path), img, workloads.Identity{}, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAnImageThatWasVerifiedIsReadAgainIfItChanged(t *testing.T) {
	for what, c := range map[string]struct {
		change func(path string, id *workloads.Identity)
		read   bool
	}{
		"nothing":      {func(string, *workloads.Identity) {}, false},
		"another boot": {func(_ string, id *workloads.Identity) { id.Boot = "another" }, true},
		"not verified": {func(_ string, id *workloads.Identity) { *id = workloads.Identity{} }, true},
		"a copy in its place": {func(p string, _ *workloads.Identity) {
			b, err := os.ReadFile(p)
			if err := errors.Join(err, os.Remove(p), os.WriteFile(p, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, true},
		"the same bytes, and their time set back": {func(p string, id *workloads.Identity) {
			write(t, p, 0, 0)
			before := time.Unix(0, id.Changed)
			if err := os.Chtimes(p, before, before); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		path, img := image(t, make([]byte, 8192))
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if id := Identify(f); id != (workloads.Identity{}) && time.Since(time.Unix(0, id.Changed)) < tick {
			t.Errorf("a file that was changed just now: got %+v, want none", id)
		}
		time.Sleep(2 * tick)
		id := Identify(f)
		if id == (workloads.Identity{}) {
			t.Fatal("got no identity")
		}
		c.change(path, &id)
		time.Sleep(2 * tick)
		img.Root[0]++ // whoever reads it sees that it is another one
		g, err := verified(path, img, id)
		if err == nil {
			_ = g.Close()
		}
		if (err != nil) != c.read {
			t.Errorf("%s: got %v, want read %t", what, err, c.read)
		}
	}
}

func write(t *testing.T, path string, at int64, b byte) string {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{b}, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func truncated(t *testing.T, path string) string {
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	return path
}

func linked(t *testing.T, path string) string {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func chmod(t *testing.T, path string, mode os.FileMode) string {
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMountPointsAreDirectoriesOfTheImageItself(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"data", "var/lib/web"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "/etc", "up": "../..", "in": "data", "lib": "var/lib"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(root, []string{"/data", "/var/lib/web", "/"}); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{"/out", "/up", "/in", "/lib/web", "/file", "/absent", "/data/../../etc"} {
		if err := Check(root, []string{"/data", dir}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want an error that names it", dir, err)
		}
	}
}

// apart runs a test in a mount namespace of its own, on a thread that is thrown away.
func apart(t *testing.T, do func()) {
	t.Helper()
	needs.That(t, os.Geteuid() == 0, "root, for mounts")
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock it
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAMappedMountShowsOtherOwnersAndLetsNobodyIn(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	link := filepath.Join(dir, "link")
	for _, err := range []error{
		os.Mkdir(from, 0o755), os.Mkdir(to, 0o755), os.Symlink("/etc", link),
		os.WriteFile(filepath.Join(from, "mine"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	apart(t, func() {
		const first = 0x20000000
		m, err := Map(IDs{First: first, Size: 65536})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = m.Close() }()
		if err := m.Bind(link, to, false); err == nil {
			t.Error("a link to /etc was bound")
		}
		if err := os.Chown(filepath.Join(from, "mine"), 1000, 1000); err != nil {
			t.Error(err)
		}
		if err := m.Bind(from, to, true); err != nil {
			t.Error(err)
			return
		}
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(to, "mine"), &s); err != nil || s.Uid != first+1000 || s.Gid != first+1000 {
			t.Errorf("owner: got %d:%d, %v, want %d", s.Uid, s.Gid, err, first+1000)
		}
		var fs unix.Statfs_t
		const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV
		if err := unix.Statfs(to, &fs); err != nil || fs.Flags&want != want {
			t.Errorf("flags: got %x, %v, want %x in it", fs.Flags, err, want)
		}
	})
	if _, err := os.Stat(filepath.Join(to, "mine")); err == nil {
		t.Error("the mount is seen outside of its namespace")
	}
}
