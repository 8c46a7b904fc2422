package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tools are the programs and files that the machines need, as Debian packages them.
type Tools struct {
	Kernel  string // vmlinuz
	Modules string // directory of the kernel's modules, lib/modules/VERSION/kernel
	Cache   string // directory that both are in
}

// Where Debian keeps what has no name in PATH.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	grubBIOS = "/usr/lib/grub/i386-pc"
	grubUEFI = "/usr/lib/grub/x86_64-efi"
	armCode  = "/usr/share/AAVMF/AAVMF_CODE.fd"
	armVars  = "/usr/share/AAVMF/AAVMF_VARS.fd"
	SDBoot   = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	sdStub   = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
)

// FindTools looks for everything that `.ci/install e2e` installs; cache is where that
// put the kernel. The error lists all that is missing.
func FindTools(cache string) (Tools, error) {
	var missing []string
	for _, name := range []string{"qemu-system-x86_64", "sgdisk", "mkfs.vfat", "mcopy", "grub-mkimage", "objcopy"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	for _, path := range []string{ovmfCode, ovmfVars, grubBIOS + "/boot.img", grubUEFI + "/linux.mod", SDBoot, sdStub} {
		if _, err := os.Stat(path); err != nil {
			missing = append(missing, path)
		}
	}
	kernels, err := filepath.Glob(filepath.Join(cache, "boot/vmlinuz-*"))
	modules, err2 := filepath.Glob(filepath.Join(cache, "lib/modules/*/kernel"))
	if err := errors.Join(err, err2); err != nil {
		return Tools{}, err
	}
	if len(kernels) != 1 || len(modules) != 1 {
		missing = append(missing, "a kernel in "+cache)
	}
	if len(missing) > 0 {
		return Tools{}, fmt.Errorf("run .ci/install e2e, missing: %s", strings.Join(missing, ", "))
	}
	return Tools{Kernel: kernels[0], Modules: modules[0], Cache: cache}, nil
}

// FindArmTools looks for what machines for arm64 need beside those: cache is where
// `.ci/install e2e-full` put their kernel and GRUB.
func FindArmTools(cache string) (Tools, error) {
	for _, path := range []string{armCode, armVars, filepath.Join(cache, armGRUB, "linux.mod")} {
		if _, err := os.Stat(path); err != nil {
			return Tools{}, err
		}
	}
	if _, err := exec.LookPath("qemu-system-aarch64"); err != nil {
		return Tools{}, err
	}
	return FindTools(cache)
}

// run runs a tool; its error holds what the tool said.
func run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C", "MTOOLS_SKIP_CHECK=1", "SOURCE_DATE_EPOCH=1600000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.2000s", name, err, out)
	}
	return nil
}
