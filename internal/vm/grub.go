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
func MakeGRUB(work, script string) (GRUB, error) {
	var g GRUB
	if err := os.WriteFile(filepath.Join(work, "grub.cfg"), []byte(console+script), 0o644); err != nil {
		return g, err
	}
	if err := os.WriteFile(filepath.Join(work, "early.cfg"), []byte("normal (memdisk)/grub.cfg\n"), 0o644); err != nil {
		return g, err
	}
	mem, early := filepath.Join(work, "memdisk.tar"), filepath.Join(work, "early.cfg")
	if err := run("tar", "-C", work, "-cf", mem, "--owner=0", "--group=0", "--mtime=@0", "grub.cfg"); err != nil {
		return g, err
	}
	for _, f := range []struct {
		format string
		extra  []string
		into   *[]byte
	}{{"i386-pc", []string{"biosdisk"}, &g.Core}, {"x86_64-efi", nil, &g.EFI}} {
		out := filepath.Join(work, "grub."+f.format)
		args := []string{"-O", f.format, "-p", "(memdisk)", "-c", early, "-m", mem, "-o", out}
		if err := run("grub-mkimage", append(append(args, grubModules...), f.extra...)...); err != nil {
			return g, err
		}
		b, err := os.ReadFile(out)
		if err != nil {
			return g, err
		}
		*f.into = b
	}
	return g, nil
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
