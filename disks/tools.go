package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Where Debian keeps what has no name in PATH.
const (
	grubBIOS = "/usr/lib/grub/i386-pc"
	grubUEFI = "/usr/lib/grub/x86_64-efi"
	sdBoot   = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
)

// need is a program or file, and the Debian package that brings it.
type need struct{ what, from string }

// tools checks that everything is there that the disk is made with, before anything is
// done. The error names the packages to install.
func (o *Options) tools() error {
	needs := []need{{"mkfs.vfat", "dosfstools"}, {"mcopy", "mtools"}}
	switch o.Loader {
	case GRUB:
		needs = append(needs, need{"grub-mkimage", "grub-common"}, need{grubBIOS + "/boot.img", "grub-pc-bin"}, need{grubUEFI + "/linux.mod", "grub-efi-amd64-bin"})
	case SDBoot:
		needs = append(needs, need{sdBoot, "systemd-boot-efi"})
	}
	needs = append(needs, fileSystems[o.Data.FileSystem].need)
	var packages []string
	for _, n := range needs {
		var err error
		if filepath.IsAbs(n.what) {
			_, err = os.Stat(n.what)
		} else {
			_, err = find(n.what)
		}
		if err != nil {
			packages = append(packages, n.from)
		}
	}
	if len(packages) > 0 {
		return fmt.Errorf("tools are missing: install %s", strings.Join(packages, " "))
	}
	return nil
}

// find looks for a program also where only root's PATH leads.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// run runs a tool; its error holds what the tool said. Whoever is not root is it in a user
// namespace, so that the files that go into a file system belong to root there.
func run(ctx context.Context, name string, args ...string) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1", "MKE2FS_CONFIG="+os.DevNull)
	if os.Geteuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.2000s", name, err, out)
	}
	return nil
}

// What lseek(2) looks for.
const (
	seekData = 3
	seekHole = 4
)

// put copies a file to a place on the disk. What the file never held is not read: a large data
// partition is hardly anything else.
func (b *builder) put(path string, at int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, 1<<20)
	for end := int64(0); ; {
		from, err := f.Seek(end, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil // nothing but holes up to the end
		}
		if err != nil {
			return err
		}
		if end, err = f.Seek(from, seekHole); err != nil {
			return err
		}
		src, dst := io.NewSectionReader(f, from, end-from), sparse{io.NewOffsetWriter(b.disk, at+from)}
		if _, err := io.CopyBuffer(io.NewOffsetWriter(dst, 0), struct{ io.Reader }{src}, buffer); err != nil {
			return err
		}
	}
}

// allocate makes an empty file of size bytes in the work directory.
func (b *builder) allocate(name string, size int64) (string, error) {
	path := filepath.Join(b.work, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return "", err
	}
	return path, f.Close()
}

// write writes a file in the work directory, with the directories above it.
func write(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, mode)
}
