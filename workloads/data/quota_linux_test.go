package data_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads/data"
	"github.com/twinkeel/twinkeel/workloads/quota"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// generation makes one of app web and returns its volumes.
func generation(t *testing.T, d *data.Dir, from, to string) map[string]string {
	t.Helper()
	must(t, d.Clone(t.Context(), "web", from, to))
	v, err := d.Volumes("web", to, &release.AppManifest{Name: "web", Run: release.AppRun{UID: 1000, GID: 1001}, Data: []release.AppVolume{
		{Name: "cache", Path: "/cache", Class: "cache"}, {Name: "db", Path: "/db", Class: "versioned"},
	}})
	must(t, err)
	return v
}

// asApp runs a command as the application's user, who has no rights beyond it.
func asApp(argv ...string) (string, error) {
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1001}}
	b, err := c.CombinedOutput()
	return string(b), err
}

// fillFile writes twice as much as the limit of the test, as the application.
func fillFile(path string) (int64, string, error) {
	out, err := asApp("dd", "if=/dev/urandom", "of="+path, "bs=64k", "count=128", "conv=fsync")
	st, serr := os.Stat(path)
	if serr != nil {
		return 0, out, errors.Join(err, serr)
	}
	return st.Size(), out, err
}

func TestOnBtrfsAVolumeAndItsClonesStopAtTheirQuotaAndNobodyElseDoes(t *testing.T) {
	const limit = 4 << 20
	at := mounted(t, "btrfs")
	must(t, os.Chmod(filepath.Dir(at), 0o711))
	d, err := data.Open(filepath.Join(at, "data"))
	must(t, err)
	v := generation(t, d, "", "g1")
	if err := quota.Limit(v["db"], limit); !errors.Is(err, quota.ErrNone) || !strings.Contains(err.Error(), "squota") {
		t.Errorf("without quotas: got %v, want ErrNone, and what is missing", err)
	}
	needs.SimpleQuotas(t, at)
	for range 2 { // a second time it is as it was
		must(t, quota.Limit(v["db"], limit))
	}
	full := func(path string) {
		t.Helper()
		if n, out, err := fillFile(path); err == nil || n > limit || n < limit/2 || !strings.Contains(out, "quota") {
			t.Errorf("%s: got %d bytes, %v: %s; want an end of room at %d", filepath.Base(path), n, err, out, limit)
		}
	}
	must(t, os.WriteFile(filepath.Join(v["db"], "kept"), []byte("of the first"), 0o644))
	// A subvolume of the application's own is no way around.
	own := filepath.Join(v["db"], "own")
	if out, err := asApp("btrfs", "subvolume", "create", own); err != nil {
		t.Fatalf("a subvolume of its own: %v: %s", err, out)
	}
	full(filepath.Join(own, "file"))
	if n, out, err := fillFile(filepath.Join(v["db"], "file")); err == nil || n > limit/2 {
		t.Errorf("beside a full subvolume: got %d bytes, %v: %s", n, err, out)
	}
	must(t, os.Remove(filepath.Join(own, "file")))
	full(filepath.Join(v["db"], "file"))
	if n, out, err := fillFile(filepath.Join(v["cache"], "file")); err != nil || n != 2*limit {
		t.Errorf("a volume without a limit: got %d bytes, %v: %s", n, err, out)
	}
	first, err := os.ReadFile(filepath.Join(v["db"], "file"))
	must(t, err)

	v2 := generation(t, d, "g1", "g2")
	must(t, quota.Limit(v2["db"], limit))
	full(filepath.Join(v2["db"], "more"))
	if b, err := os.ReadFile(filepath.Join(v2["db"], "kept")); err != nil || string(b) != "of the first" {
		t.Errorf("in the clone: got %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(v["db"], "file")); err != nil || !bytes.Equal(b, first) {
		t.Errorf("what was cloned changed, %v", err)
	}
	must(t, d.Remove("web", "g1"))
	list, err := d.Generations("web")
	must(t, err)
	if len(list) != 1 || list[0].Name != "g2" {
		t.Errorf("after the removal: got %v, want g2 alone", list)
	}
}

// An application may make a subvolume of its volume that nobody writes to.
func TestOnBtrfsAGenerationWithReadOnlySubvolumesIsCopiedAndRemoved(t *testing.T) {
	at := mounted(t, "btrfs")
	must(t, os.Chmod(filepath.Dir(at), 0o711))
	d, err := data.Open(filepath.Join(at, "data"))
	must(t, err)
	own := filepath.Join(generation(t, d, "", "g1")["db"], "own")
	for _, argv := range [][]string{
		{"btrfs", "subvolume", "create", own}, {"btrfs", "subvolume", "create", own + "/inner"}, {"dd", "if=/dev/zero", "of=" + own + "/inner/file", "bs=4k", "count=1"},
		{"btrfs", "property", "set", own + "/inner", "ro", "true"}, {"btrfs", "property", "set", own, "ro", "true"},
		{"btrfs", "subvolume", "snapshot", "-r", own + "/inner", filepath.Dir(own) + "/frozen"},
	} {
		if out, err := asApp(argv...); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
		}
	}
	v2 := generation(t, d, "g1", "g2")
	if st, err := os.Stat(filepath.Join(v2["db"], "own/inner/file")); err != nil || st.Size() != 4096 {
		t.Errorf("in the clone: got %v, %v", st, err)
	}
	must(t, d.Remove("web", "g1"))
	must(t, d.Remove("web", "g2"))
	if list, err := d.Generations("web"); err != nil || len(list) != 0 {
		t.Errorf("after the removals: got %v, %v, want none", list, err)
	}
	if left, err := filepath.Glob(filepath.Join(at, "data/*/*/*")); err != nil || len(left) > 1 { // the cache
		t.Errorf("left: %q, %v", left, err)
	}
}
