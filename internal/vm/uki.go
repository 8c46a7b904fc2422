package vm

import (
	"os"
	"path/filepath"
)

// UKI builds a unified kernel image of Debian's stub: kernel, initramfs and command line
// in one EFI application.
func UKI(work, kernel string, initramfs []byte, cmdline string) ([]byte, error) {
	ird, line, out := filepath.Join(work, "initramfs"), filepath.Join(work, "cmdline"), filepath.Join(work, "uki.efi")
	if err := os.WriteFile(ird, initramfs, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(line, []byte(cmdline), 0o644); err != nil {
		return nil, err
	}
	// The places in memory are those that Debian's own tools use: behind the stub, kernel
	// last, because it is unpacked over what follows.
	err := run("objcopy",
		"--add-section", ".cmdline="+line, "--change-section-vma", ".cmdline=0x30000",
		"--add-section", ".linux="+kernel, "--change-section-vma", ".linux=0x2000000",
		"--add-section", ".initrd="+ird, "--change-section-vma", ".initrd=0x3000000",
		sdStub, out)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}
