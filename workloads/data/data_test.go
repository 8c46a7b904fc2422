package data

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

func manifest() *release.AppManifest {
	return &release.AppManifest{Name: "web", Run: release.AppRun{UID: 1000, GID: 1001}, Data: []release.AppVolume{
		{Name: "cache", Path: "/cache", Class: "cache"}, {Name: "db", Path: "/db", Class: "versioned"},
	}}
}

// begin makes generation g1 of app web and returns its volumes.
func begin(t *testing.T) (*Dir, map[string]string) {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Clone(context.Background(), "web", "", "g1"); err != nil {
		t.Fatal(err)
	}
	v, err := d.Volumes("web", "g1", manifest())
	if err != nil {
		t.Fatal(err)
	}
	return d, v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func clone(t *testing.T, d *Dir, from, to string) map[string]string {
	t.Helper()
	must(t, d.Clone(context.Background(), "web", from, to))
	v, err := d.Volumes("web", to, manifest())
	must(t, err)
	return v
}

func TestACloneIsTheSameAndApart(t *testing.T) {
	d, v := begin(t)
	db := v["db"]
	must(t, os.WriteFile(filepath.Join(db, "a"), []byte("one"), 0o640))
	must(t, os.Link(filepath.Join(db, "a"), filepath.Join(db, "b")))
	must(t, os.MkdirAll(filepath.Join(db, "x/y"), 0o750))
	must(t, os.Chmod(filepath.Join(db, "x"), 0o500))
	must(t, unix.Mkfifo(filepath.Join(db, "pipe"), 0o600))
	sparse, err := os.Create(filepath.Join(db, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 8<<20)
	must(t, errors.Join(err, sparse.Close()))
	old := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	must(t, os.Chtimes(filepath.Join(db, "a"), old, old))
	next := clone(t, d, "g1", "g2")
	if next["cache"] != v["cache"] || next["db"] == db {
		t.Errorf("volumes: got %v after %v, want another db and the same cache", next, v)
	}
	st, err := os.Stat(filepath.Join(next["db"], "a"))
	if err != nil || st.Mode() != 0o640 || !st.ModTime().Equal(old) {
		t.Errorf("a: got %v, %v", st, err)
	}
	other, err := os.Stat(filepath.Join(next["db"], "b"))
	if err != nil || !os.SameFile(st, other) {
		t.Errorf("two names of one file are two files: %v", err)
	}
	if dir, err := os.Stat(filepath.Join(next["db"], "x")); err != nil || dir.Mode().Perm() != 0o500 {
		t.Errorf("x: got %v, %v", dir, err)
	}
	var blocks unix.Stat_t
	must(t, unix.Stat(filepath.Join(next["db"], "sparse"), &blocks))
	if blocks.Size != 8<<20+3 || blocks.Blocks*512 > 1<<20 {
		t.Errorf("sparse: got %d bytes in %d blocks", blocks.Size, blocks.Blocks)
	}
	must(t, os.WriteFile(filepath.Join(next["db"], "a"), []byte("two"), 0o640))
	if b, err := os.ReadFile(filepath.Join(db, "a")); err != nil || string(b) != "one" {
		t.Errorf("a write to the clone changed what it was made from: %q, %v", b, err)
	}
}

func TestLinksInADataDirectoryAreNeverFollowed(t *testing.T) {
	d, v := begin(t)
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	must(t, os.Symlink(secret, filepath.Join(v["db"], "out")))
	must(t, os.Symlink("/", filepath.Join(v["db"], "root")))
	must(t, os.Symlink("loop", filepath.Join(v["db"], "loop")))
	next := clone(t, d, "g1", "g2")
	for name, want := range map[string]string{"out": secret, "root": "/", "loop": "loop"} {
		if got, err := os.Readlink(filepath.Join(next["db"], name)); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want a link to %s", name, got, err, want)
		}
	}
	must(t, d.Remove("web", "g2"))
	if _, err := os.Stat(secret); err != nil {
		t.Errorf("what a link led to is gone: %v", err)
	}
	// A volume that an app replaced by a link is no volume.
	must(t, os.RemoveAll(v["db"]))
	must(t, os.Symlink("/", v["db"]))
	if got, err := d.Volumes("web", "g1", manifest()); err == nil {
		t.Errorf("a link serves as a volume: %v", got)
	}
}

func TestACloneThatWasInterruptedIsBegunAnewAndOneThatIsThereStays(t *testing.T) {
	d, v := begin(t)
	must(t, os.WriteFile(filepath.Join(v["db"], "a"), []byte("one"), 0o600))
	torn := filepath.Join(d.generations("web"), newPrefix+"g2")
	must(t, os.MkdirAll(filepath.Join(torn, "db"), 0o700))
	must(t, os.WriteFile(filepath.Join(torn, "db", "a"), []byte("o"), 0o600))
	if list, err := d.Generations("web"); err != nil || len(list) != 1 {
		t.Fatalf("what is not whole is listed: %v, %v", list, err)
	}
	next := clone(t, d, "g1", "g2")
	if b, err := os.ReadFile(filepath.Join(next["db"], "a")); err != nil || string(b) != "one" {
		t.Errorf("got %q, %v", b, err)
	}
	must(t, os.WriteFile(filepath.Join(next["db"], "a"), []byte("later"), 0o600))
	again := clone(t, d, "g1", "g2")
	if b, err := os.ReadFile(filepath.Join(again["db"], "a")); err != nil || string(b) != "later" {
		t.Errorf("a clone that is there was made again: %q, %v", b, err)
	}
}

// patience is a context that ends when it was asked for the nth time.
type patience struct {
	context.Context
	left int
}

// Err implements context.Context.
func (p *patience) Err() error {
	if p.left--; p.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// One large file is no reason to go on for longer than there is time.
func TestACopyOfOneLargeFileEndsInTime(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	must(t, os.WriteFile(from, bytes.Repeat([]byte("x"), 2*piece+1), 0o600))
	for left, want := range []error{context.DeadlineExceeded, context.DeadlineExceeded, context.DeadlineExceeded, nil} {
		in, err := os.Open(from)
		must(t, err)
		out, err := os.Create(to)
		must(t, err)
		c := &copier{ctx: &patience{t.Context(), left}}
		if err := c.content(in, out, 2*piece+1); !errors.Is(err, want) {
			t.Errorf("asked %d times: got %v, want %v", left, err, want)
		}
		must(t, errors.Join(in.Close(), out.Close()))
	}
	a, err := os.ReadFile(from)
	must(t, err)
	b, err := os.ReadFile(to)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Errorf("got %d bytes, want the same %d", len(b), len(a))
	}
}

func TestWhatCannotBeCopiedIsKnownBeforehand(t *testing.T) {
	d, v := begin(t)
	must(t, os.WriteFile(filepath.Join(v["db"], "a"), make([]byte, 1<<20), 0o600))
	web := workloads.Origin{App: "web", Generation: "g1"}
	must(t, d.CheckClone(context.Background(), time.Minute, web))
	if !d.reflinks("web") {
		// One of them fits, all of them together do not.
		size, _, err := measure(context.Background(), v["db"])
		must(t, err)
		many := slices.Repeat([]workloads.Origin{web}, int(2*perSecond/size))
		must(t, d.CheckClone(context.Background(), time.Second, web))
		if err := d.CheckClone(context.Background(), time.Second, many...); err == nil || !strings.Contains(err.Error(), "may take 2s") {
			t.Errorf("got %v, want that copies take too long together", err)
		}
		c := copier{ctx: context.Background(), reserve: 1 << 62, links: map[[2]uint64]string{}}
		if err := c.entry(filepath.Join(v["db"], "a"), filepath.Join(t.TempDir(), "a"), 1); !errors.Is(err, workloads.ErrNoRoom) {
			t.Errorf("got %v, want that the reserve is left", err)
		}
		if err := d.CheckClone(context.Background(), -1, web); err == nil || !strings.Contains(err.Error(), "may take") {
			t.Errorf("got %v, want that a copy takes too long", err)
		}
	}
	if err := d.CheckClone(context.Background(), time.Minute, workloads.Origin{App: "web", Generation: "g9"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	for _, bad := range []string{"", "..", "a/b", ".new-x"} {
		if d.Clone(context.Background(), bad, "", "g1") == nil || d.Clone(context.Background(), "web", "", bad) == nil || d.Remove("web", bad) == nil {
			t.Errorf("the name %q was taken", bad)
		}
	}
}

func TestGenerationsAreListedByAgeAndRemoved(t *testing.T) {
	d, _ := begin(t)
	clone(t, d, "g1", "g2")
	list, err := d.Generations("web")
	if err != nil || len(list) != 2 || list[0].Name != "g1" {
		t.Fatalf("got %v, %v", list, err)
	}
	for range 2 {
		must(t, d.Remove("web", "g1"))
	}
	if list, err = d.Generations("web"); err != nil || len(list) != 1 || list[0] != (workloads.Generation{Name: "g2", Made: list[0].Made}) {
		t.Fatalf("got %v, %v", list, err)
	}
	if _, err := d.Volumes("web", "g1", manifest()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("volumes of what was removed: got %v, want fs.ErrNotExist", err)
	}
	if apps, err := d.Apps(); err != nil || len(apps) != 1 || apps[0] != "web" {
		t.Errorf("apps: got %v, %v", apps, err)
	}
}
