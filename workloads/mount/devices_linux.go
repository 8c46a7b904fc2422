package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// common are the devices that every container has, with their numbers (Linux,
// Documentation/admin-guide/devices.txt).
var common = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// Devices puts nodes of the caller's own over those of /dev that every container has. A
// runtime shows the ones it finds there to a container, which may watch their inodes
// (inotify(7)): with the host's it would learn when anybody on the host opens them. Dir is
// made for the time of it.
func Devices(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	defer func() { _ = os.Remove(dir) }()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=4k"); err != nil {
		return fmt.Errorf("devices: mount: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }() // what is bound stays
	for _, d := range common {
		at, own := "/dev/"+d.name, filepath.Join(dir, d.name)
		if err := unix.Mknod(own, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("devices: %s: %w", d.name, err)
		}
		err := unix.Chmod(own, 0o666) // past the umask
		if err == nil {
			err = unix.Mount(own, at, "", unix.MS_BIND, "")
		}
		if err != nil && !errors.Is(err, unix.ENOENT) { // not every host has all of them
			return fmt.Errorf("devices: %s: %w", at, err)
		}
	}
	return nil
}
