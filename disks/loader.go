package disks

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
)

// ourDir is our directory in the file systems that the loader reads.
const ourDir = "twinkeel"

// efiDefault is what UEFI starts from a disk that it was told nothing of.
const efiDefault = "EFI/BOOT/BOOTX64.EFI"

// What the script of package grub needs of GRUB, beside the drivers of the firmware.
var grubModules = []string{"part_gpt", "fat", "ext2", "tar", "normal", "configfile", "loadenv", "linux", "test", "echo", "serial", "terminal", "regexp", "reboot", "sleep", "halt", "true", "ls", "cat"}

// Of the start of a BIOS disk: boot.img is the first sector up to the partition table. It
// holds the sector of the core, whose first sector holds the one where the rest begins.
// Source: GRUB 2.06, include/grub/i386/pc/boot.h and util/setup.c.
const (
	bootCode     = 440
	kernelSector = 0x5c
	restSector   = 0x1f4
)

// preamble comes before the script in grub.cfg: it finds the disk that GRUB came from, and
// speaks on screen and serial line.
const preamble = `# Written by twinkeel-server disk create.
serial --unit=0 --speed=115200
terminal_output console serial
terminal_input console serial
regexp --set=1:twinkeel_disk '^\(([^,)]+)' "$prefix"

`

// grub writes GRUB for BIOS and UEFI, and the boot record. That has a file system of its
// own: nothing else writes there, and nobody ever writes to the ESP.
func (b *builder) grub(ctx context.Context) error {
	env, tree := filepath.Join(b.work, "env"), filepath.Join(b.work, "tree")
	if err := os.MkdirAll(filepath.Join(env, ourDir), 0o755); err != nil {
		return err
	}
	blocks, err := grub.MakeFiles(filepath.Join(env, ourDir))
	if err != nil {
		return err
	}
	state, descriptions := b.record()
	if err := grub.Create(blocks, state, descriptions); err != nil {
		return err
	}
	if err := b.fat(ctx, "bootenv", env, "12"); err != nil {
		return err
	}
	on := func(label string) string { return fmt.Sprintf("(${twinkeel_disk},gpt%d)", b.number(label)) }
	script, err := grub.Snippet(grub.Layout{
		Dir: on("bootenv") + "/" + ourDir, Boot: [2]string{on("boot-a"), on("boot-b")},
		Kernel: "/vmlinuz", Initrd: "/initrd.img", Cmdline: b.o.Cmdline,
	})
	if err != nil {
		return err
	}
	if err := write(filepath.Join(tree, ourDir, "grub.cfg"), []byte(preamble+script), 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(efiDefault)), 0o755); err != nil {
		return err
	}
	if err := b.mkimage(ctx, "x86_64-efi", filepath.Join(tree, efiDefault)); err != nil {
		return err
	}
	if b.bios() {
		if err := b.installBIOS(ctx); err != nil {
			return err
		}
	}
	return b.fat(ctx, "esp", tree, "32")
}

// mkimage makes an image of GRUB that takes its configuration from the ESP of the disk
// that it was started from.
func (b *builder) mkimage(ctx context.Context, format, out string, modules ...string) error {
	prefix := fmt.Sprintf("(,gpt%d)/%s", b.number("esp"), ourDir)
	args := append([]string{"-O", format, "-p", prefix, "-o", out}, grubModules...)
	return run(ctx, "grub-mkimage", append(args, modules...)...)
}

// installBIOS puts GRUB where a BIOS starts it, as grub-bios-setup does.
func (b *builder) installBIOS(ctx context.Context) error {
	corePath := filepath.Join(b.work, "core.img")
	if err := b.mkimage(ctx, "i386-pc", corePath, "biosdisk"); err != nil {
		return err
	}
	boot, err := os.ReadFile(grubBIOS + "/boot.img")
	if err != nil {
		return err
	}
	core, err := os.ReadFile(corePath)
	if err != nil {
		return err
	}
	at := b.part("bios")
	if len(boot) < bootCode || len(core) < sector || int64(len(core)) > at.size {
		return fmt.Errorf("images: got %d and %d bytes, want a sector, and at most %d", len(boot), len(core), at.size)
	}
	binary.LittleEndian.PutUint64(boot[kernelSector:], uint64(at.start/sector))
	binary.LittleEndian.PutUint64(core[restSector:], uint64(at.start/sector+1))
	if _, err := b.disk.WriteAt(boot[:bootCode], 0); err != nil {
		return err
	}
	_, err = b.disk.WriteAt(core, at.start)
	return err
}

// systemdBoot makes the ESP with systemd-boot and the kernel image of slot a.
func (b *builder) systemdBoot(ctx context.Context) error {
	tree := filepath.Join(b.work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	fs, err := sdboot.MakeFiles(tree)
	if err != nil {
		return err
	}
	// The kernel is taken from the slot itself, as a host does.
	at := b.part("boot-a")
	slot, err := b.allocate("boot-a", at.size)
	if err != nil {
		return err
	}
	if err := b.extract(slot, at.start, b.o.Images[imageBoot].Size); err != nil {
		return err
	}
	kernels := fs.Kernels(func(s partitions.Slot) (partitions.OpenDevice, error) {
		if s != partitions.A {
			return nil, os.ErrNotExist
		}
		return partitions.OpenRead(slot)
	})
	state, descriptions := b.record()
	if err := sdboot.Create(fs.Entries, fs.Record, kernels, state, descriptions); err != nil {
		return err
	}
	loader, err := os.ReadFile(sdBoot)
	if err != nil {
		return err
	}
	for _, name := range []string{efiDefault, "EFI/systemd/systemd-bootx64.efi"} {
		if err := write(filepath.Join(tree, name), loader, 0o644); err != nil {
			return err
		}
	}
	return b.fat(ctx, "esp", tree, "32")
}

// extract copies a range of the disk into a file.
func (b *builder) extract(to string, at, n int64) error {
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < n; off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), n-off)]
		if _, err := b.disk.ReadAt(part, at+off); err != nil {
			return err
		}
		if _, err := f.WriteAt(part, off); err != nil {
			return err
		}
	}
	return f.Close()
}

// fatArgs returns what mkfs.vfat is told of the kind of file system. Linux mounts none whose
// sectors are smaller than the disk's; and as the number of its clusters tells how many bits a
// FAT has, one of large sectors has 32 only from 257 MiB on.
func (b *builder) fatArgs(bits string, size int64) []string {
	if b.o.Sector == sector {
		return []string{"-F", bits}
	}
	if bits == "32" && size <= 256*mib {
		bits = "16"
	}
	return []string{"-F", bits, "-S", strconv.FormatInt(b.o.Sector, 10), "-s", "1"}
}

// fat writes a FAT file system that holds what is in tree to a partition.
func (b *builder) fat(ctx context.Context, label, tree, bits string) error {
	at := b.part(label)
	image, err := b.allocate(label+".fat", at.size)
	if err != nil {
		return err
	}
	if err := run(ctx, "mkfs.vfat", append(b.fatArgs(bits, at.size), "-n", strings.ToUpper(label), image)...); err != nil {
		return err
	}
	list, err := os.ReadDir(tree)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := run(ctx, "mcopy", "-s", "-i", image, filepath.Join(tree, e.Name()), "::"); err != nil {
			return err
		}
	}
	return b.put(image, at.start)
}
