package boot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// furnish lays out what stands around the root: the writable layers, the data partition
// at /data and the boot record at /boot. Where the data partition does not take the layers,
// because it is full or damaged, they are memory: the system has to run, and to be reachable.
func (s *Stage) furnish() error {
	err := errors.New("no data partition that can be written")
	if s.written {
		err = s.lay(layers{dir: filepath.Join(dataDir, layersDir)})
	}
	if err != nil {
		s.Say("what changes under /etc and /var is lost with the next boot: %v", err)
		if err := s.layInMemory(); err != nil {
			return err
		}
	}
	if s.data != "" {
		if err := moveInto(dataDir, "data"); err != nil {
			return err
		}
	}
	if s.loader != nil {
		return moveInto(recordDir, "boot")
	}
	return nil
}

// lay puts layers over the root's directories, all of them or none.
func (s *Stage) lay(l layers) error {
	own, lower, err := l.etc(s.order)
	if err == nil {
		err = overlay(sysroot, "etc", own, lower)
	}
	if err != nil {
		return err
	}
	if err := overlay(sysroot, "var", filepath.Join(l.dir, "var"), nil); err != nil {
		// Without one over /etc, as in a root that has no such directory, this fails.
		_ = unix.Unmount(filepath.Join(sysroot, "etc"), unix.MNT_DETACH)
		return err
	}
	return nil
}

// layInMemory puts layers that do not outlive the boot over the root's directories.
func (s *Stage) layInMemory() error {
	if err := mkdirs(memoryDir); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", memoryDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("memory for what cannot be kept: %w", err)
	}
	return s.lay(layers{dir: filepath.Join(memoryDir, layersDir), volatile: true, readable: s.data})
}

// moveInto moves a mount to a directory of the root, if the root has it.
func moveInto(from, dir string) error {
	to := filepath.Join(sysroot, dir)
	if st, err := os.Stat(to); err != nil || !st.IsDir() {
		return nil
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /%s: %w", from, dir, err)
	}
	return nil
}

// handOver makes the root /, leaves the guard behind, and becomes the root's init.
func (s *Stage) handOver() error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys", "run"} {
		if err := unix.Mount("/"+dir, filepath.Join(sysroot, dir), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", dir, err)
		}
	}
	if err := forget("/"); err != nil {
		s.Say("memory of the initramfs: %v", err)
	}
	if err := unix.Chdir(sysroot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make the root /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	// A slot without its guard is started all the same; its agent has a deadline, too.
	if err := startGuard(self); err != nil {
		s.Say("guard: %v", err)
	}
	if err := self.Close(); err != nil {
		return err
	}
	return fmt.Errorf("start %s: %w", s.order.Init, unix.Exec(s.order.Init, []string{s.order.Init}, os.Environ()))
}

// GuardName is the guard's first argument. The @ asks systemd to let it live to the end
// of a shutdown: https://systemd.io/ROOT_STORAGE_DAEMONS.
const GuardName = "@twinkeel-guard"

// startGuard runs this program once more, from a file that is no longer in any directory.
func startGuard(self *os.File) error {
	cmd := exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", self.Fd()), Args: []string{GuardName}, Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// forget removes what the initramfs holds, and nothing that is mounted in it.
func forget(dir string) error {
	var here unix.Stat_t
	if err := unix.Lstat(dir, &here); err != nil {
		return err
	}
	return forgetOn(here.Dev, dir)
}

func forgetOn(dev uint64, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Dev != dev {
			errs = append(errs, err)
			continue
		}
		if e.IsDir() {
			errs = append(errs, forgetOn(dev, path))
		}
		// A directory in which something is mounted stays.
		if err := os.Remove(path); err != nil && !e.IsDir() && !strings.HasPrefix(path, sysroot) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
