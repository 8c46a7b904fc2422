package runner_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/quota"
)

// subvolumes puts the data of applications on a btrfs with simple quotas.
func (h *host) subvolumes() {
	h.t.Helper()
	_, err := exec.LookPath("mkfs.btrfs")
	need(h.t, err == nil, "mkfs.btrfs")
	disk, dir := filepath.Join(h.dir, "disk"), filepath.Join(h.dir, "state", "data")
	for _, c := range [][]string{{"truncate", "-s", "256M", disk}, {"mkfs.btrfs", "-q", disk}, {"mkdir", "-p", dir}, {"mount", "-o", "loop", disk, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			h.t.Skipf("%v: %v: %s", c, err, out)
		}
	}
	h.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f, err := os.Open(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	const control, enableSimple = 0xc0109428, 4 // BTRFS_IOC_QUOTA_CTL, of linux/btrfs.h
	args := [2]uint64{enableSimple}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), control, uintptr(unsafe.Pointer(&args))); errno != 0 {
		h.t.Skipf("this kernel's btrfs has no simple quotas: %v", errno)
	}
}

func TestAnApplicationOverAQuotaOfTheFileSystemIsToldSoAndRunsOn(t *testing.T) {
	h := newHost(t, "")
	h.subvolumes()
	for _, name := range []string{"web", "other"} {
		dir := filepath.Join(h.dir, "state", "data", name)
		if err := errors.Join(quota.Mkdir(dir, 0o755), os.Chown(dir, 1000, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	other := h.actor("sleep")
	other.Manifest.Name, other.Manifest.Data[0].Quota = "other", 32<<20
	other.Data = map[string]string{"db": filepath.Join(h.dir, "state", "data", "other")}
	u := h.actor("fill", "/data")
	u.Manifest.Data[0].Quota = 4 << 20
	h.start(other)
	h.start(u)
	h.eventually("the end of room", func() bool { return strings.Contains(h.said(), "disk quota exceeded") })
	if st := h.status(); !st.Running || st.Quota != "enforced" || st.Restarts != 0 {
		t.Errorf("got %+v, want it running, its quota enforced", st)
	}
	st, err := h.Status(t.Context(), "other")
	if err != nil || !st.Running || st.Restarts != 0 || st.Quota != "enforced" {
		t.Errorf("the other: got %+v, %v, want it untouched", st, err)
	}
	if err := h.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	h.start(u) // it is full, and starts all the same
}
