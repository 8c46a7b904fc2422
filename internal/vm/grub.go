package vm

import (
	"encoding/binary"
	"os"
	"path/filepath"
)

// What the scripts of package grub need of GRUB, beside the disk's driver.
var grubModules = []string{"part_gpt", "fat", "ext2", "normal", "configfile", "loadenv", "linux", "test", "echo", "serial", "terminal", "reboot", "sleep", "halt", "memdisk", "tar", "true"}

// console makes GRUB speak on the serial line.
const console = "serial --unit=0 --speed=115200\nterminal_output serial\n"

// GRUB is a GRUB with a configuration of its own inside.
type GRUB struct {
	Core []byte // for BIOS: what the boot sector loads
	EFI  []byte // for UEFI: an application
}

// MakeGRUB builds a GRUB that runs script as its only configuration.
func MakeGRUB(work, script string) (g GRUB, err error) {
	if g.Core, err = mkimage(work, script, "-O", "i386-pc", "biosdisk"); err != nil {
		return g, err
	}
	g.EFI, err = mkimage(work, script, "-O", "x86_64-efi")
	return g, err
}

// armGRUB is where the modules of GRUB for arm64 are, below the directory of its kernel.
const armGRUB = "usr/lib/grub/arm64-efi"

// MakeArmGRUB builds one for UEFI on arm64.
func (t Tools) MakeArmGRUB(work, script string) ([]byte, error) {
	return mkimage(work, script, "-O", "arm64-efi", "-d", filepath.Join(t.Cache, armGRUB))
}

// mkimage builds one image of GRUB; args are the format, and modules that only it has.
func mkimage(work, script string, args ...string) ([]byte, error) {
	if err := os.WriteFile(filepath.Join(work, "grub.cfg"), []byte(console+script), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(work, "early.cfg"), []byte("normal (memdisk)/grub.cfg\n"), 0o644); err != nil {
		return nil, err
	}
	mem, early, out := filepath.Join(work, "memdisk.tar"), filepath.Join(work, "early.cfg"), filepath.Join(work, "grub.image")
	if err := run("tar", "-C", work, "-cf", mem, "--owner=0", "--group=0", "--mtime=@0", "grub.cfg"); err != nil {
		return nil, err
	}
	args = append(args, "-p", "(memdisk)", "-c", early, "-m", mem, "-o", out)
	if err := run("grub-mkimage", append(args, grubModules...)...); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// InstallBIOS puts GRUB where a BIOS starts it: boot.img in the first sector, the core in
// a partition of its own that begins at off. It does what grub-bios-setup does: it tells
// boot.img where the core's first sector is (at 0x5c), and that one where the next is
// (at 0x1f4).
func (g GRUB) InstallBIOS(disk string, off int64) error {
	boot, err := os.ReadFile(filepath.Join(grubBIOS, "boot.img"))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	binary.LittleEndian.PutUint64(boot[0x5c:], uint64(off/sector))
	core := append([]byte(nil), g.Core...)
	binary.LittleEndian.PutUint64(core[0x1f4:], uint64(off/sector+1))
	if _, err := f.WriteAt(boot[:440], 0); err != nil { // behind them lies the partition table
		return err
	}
	if _, err := f.WriteAt(core, off); err != nil {
		return err
	}
	return f.Close()
}
