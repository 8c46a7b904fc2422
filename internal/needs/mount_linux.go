package needs

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mounted makes a file system in the file disk, of a size that truncate knows, and mounts it
// on the new directory dir until the test ends.
func Mounted(t testing.TB, fs, size, disk, dir string) {
	t.Helper()
	That(t, os.Geteuid() == 0, "root, for mounts")
	Tools(t, "mkfs."+fs)
	for _, c := range [][]string{{"truncate", "-s", size, disk}, {"mkfs." + fs, "-q", disk}, {"mkdir", "-p", dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	out, err := exec.Command("mount", "-o", "loop", disk, dir).CombinedOutput()
	That(t, err == nil, fmt.Sprintf("a kernel that mounts %s from a loop device: %v: %s", fs, err, out))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// SimpleQuotas is what `btrfs quota enable --simple` does, which Debian 12's does not know. A
// kernel before them is no reason to fail, in CI either: no package can bring them.
func SimpleQuotas(t testing.TB, dir string) {
	t.Helper()
	const control, enableSimple = 0xc0109428, 4 // BTRFS_IOC_QUOTA_CTL, of linux/btrfs.h
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	args := [2]uint64{enableSimple}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), control, uintptr(unsafe.Pointer(&args)))
	if errno == 0 {
		return
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	if before(release, 6, 7) {
		t.Skipf("Linux %s has no simple quotas of btrfs, which came with 6.7: %v", release, errno)
	}
	That(t, false, fmt.Sprintf("simple quotas of btrfs, which Linux %s refuses: %v", release, errno))
}

// before says whether a release of Linux is older than a version. One that says nothing is not,
// so that no test is skipped for it.
func before(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x < major || x == major && y < minor
}
