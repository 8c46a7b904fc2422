package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads/mount"
)

// A version that starts again, such as one that was tried and then gets the sockets, finds in
// memory what it has read. What took its file's place does not run from there.
func TestASecondStartReadsNoImageAnew(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	time.Sleep(50 * time.Millisecond) // what was written just now can change and look the same
	shared, err := mount.Share(u.Image, u.Manifest.Image, u.Verified)
	var tree *os.File
	if err == nil {
		if tree, err = shared.Mount(); err == nil {
			_ = tree.Close()
		}
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil && !atLeast(unix.ByteSliceToString(name.Release[:]), 6, 15) {
		t.Skip("needs Linux 6.15, which mounts a second time what is mounted nowhere")
	}
	needs.That(t, err == nil, "EROFS in the kernel, which mounts files")
	start := func(n int) uint64 {
		h.start(u)
		defer func() {
			if err := h.Stop(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
		}()
		// The number of the file system, as the shim sees it.
		var st unix.Stat_t
		at := filepath.Join("/proc", strconv.Itoa(h.shims()[0]), "root", h.options.Run, "web."+strconv.Itoa(n), "image")
		if err := unix.Stat(at, &st); err != nil {
			t.Fatal(err)
		}
		if out, code := h.exec("/bin/actor", "processes"); code != 0 {
			t.Errorf("exec: got code %d and %q", code, out)
		}
		return st.Dev
	}
	first := start(0)
	if second := start(1); second != first {
		t.Errorf("got file systems %d and %d, want one", first, second)
	}
	// The same content in another file, and then another content, which nobody verified.
	copyFile(t, u.Image, u.Image+".new", 0o644)
	if err := os.Rename(u.Image+".new", u.Image); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	start(2)
	f, err := os.OpenFile(u.Image, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{1}, 4095)
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := h.Start(t.Context(), u); err == nil {
		t.Error("an image that is not the manifest's was started")
	} else {
		contains(t, err.Error(), "verity root")
	}
}

// atLeast compares the version of a kernel.
func atLeast(release string, major, minor int) bool {
	var x, y int
	n, err := fmt.Sscanf(release, "%d.%d", &x, &y)
	return err == nil && n == 2 && (x > major || x == major && y >= minor)
}
