package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/release"
)

// loader is a way to boot, and what else sets its machines apart.
type loader struct {
	name    string // as the agent's configuration has it
	path    string // where a slot sees the boot record
	uefi    bool
	title   string
	variant string // of its machines; "": they are as all others
	cmdline string // what their kernels are told beside the others
}

var (
	grubBIOS    = loader{name: "grub", path: "/boot/twinkeel", title: "GRUB on BIOS"}
	grubUEFI    = loader{name: "grub", path: "/boot/twinkeel", uefi: true, title: "GRUB on UEFI"}
	systemdBoot = loader{name: "systemd-boot", path: "/boot", uefi: true, title: "systemd-boot"}
	loaders     = []loader{grubBIOS, grubUEFI, systemdBoot}

	// A piece of memory is kept from everything else, and holds what a kernel saves.
	keepsMemory = loader{name: "grub", path: "/boot/twinkeel", variant: "ramoops",
		cmdline: " memmap=1M%0x8000000-1+2 ramoops.mem_address=0x8000000 ramoops.mem_size=0x100000 ramoops.record_size=0x10000 ramoops.ecc=1"}
	// Debian's full kernel has drivers of hardware, such as a watchdog.
	hasWatchdog = loader{name: "grub", path: "/boot/twinkeel", variant: "full"}
	// The initramfs is one that initramfs-tools made. Its udev would give the network's card
	// another name.
	ownInitramfs = loader{name: "grub", path: "/boot/twinkeel", variant: "initramfs-tools", cmdline: " net.ifnames=0"}

	// All its programs are built for arm64 on whatever this runs on.
	arm64 = loader{name: "grub", path: "/boot/twinkeel", uefi: true, title: "GRUB on UEFI, arm64", variant: "arm64", cmdline: " console=ttyAMA0"}

	// The disk's sectors have 4 KiB.
	largeSectors = loader{name: "grub", path: "/boot/twinkeel", uefi: true, title: "GRUB on UEFI, sectors of 4 KiB", variant: "large-sectors"}

	// The releases name an application, and control groups are those of version 2 alone.
	hasApps = loader{name: "grub", path: "/boot/twinkeel", title: "GRUB on BIOS, with an application", variant: "apps"}

	// Those with releases and a disk of their own.
	bases = []loader{grubBIOS, systemdBoot, keepsMemory, hasWatchdog, ownInitramfs, arm64, largeSectors, hasApps, ext4Root}
)

// id names what machines with the same disk have in common.
func (l loader) id() string {
	if l.variant != "" {
		return l.name + "-" + l.variant
	}
	return l.name
}

// compatible is what releases for the loader are compatible with: their boot images are
// not the same.
func (l loader) compatible() string { return "e2e-" + l.id() }

// cmdline is what every kernel is told, beside what the loader tells it. The dead-man comes
// later than the agents' deadline.
const cmdline = "console=ttyS0 quiet no_timer_check twinkeel.deadman=210 twinkeel.settle=20"

// factory writes a disk that has a release in slot a, committed, for GRUB by BIOS and UEFI.
func (k *kit) factory(name string, l loader, m release.Manifest, raw []byte) (string, error) {
	script, err := grub.Snippet(grub.Layout{
		Dir: "(hd0,gpt3)/twinkeel", Boot: [2]string{"(hd0,gpt4)", "(hd0,gpt5)"},
		Kernel: "/vmlinuz", Initrd: "/initrd.img", Cmdline: cmdline + " twinkeel.record=PARTLABEL=bootenv" + l.cmdline,
	})
	if err != nil {
		return "", err
	}
	g, err := k.grub(l, script)
	if err != nil {
		return "", err
	}
	record, err := grubRecord(filepath.Join(k.work, "record"), m)
	if err != nil {
		return "", err
	}
	data, err := k.dataImage(raw)
	if err != nil {
		return "", err
	}
	disk := filepath.Join(k.work, name)
	err = vm.Make(disk, k.work, append([]vm.Partition{
		{Label: "bios", Type: "ef02", MiB: 1},
		{Label: "esp", Type: "ef00", MiB: 8, Files: map[string][]byte{l.efi(): g.EFI}},
		{Label: "bootenv", Type: "8300", MiB: 1, Files: record},
	}, append(k.slotA(l, m.Version.String()), vm.Partition{Label: "data", Type: "8300", MiB: dataSize, Image: data})...))
	if err != nil {
		return "", err
	}
	if g.Core == nil {
		return disk, nil
	}
	return disk, g.InstallBIOS(disk, mib)
}

// grub builds the GRUB of a loader's machines.
func (k *kit) grub(l loader, script string) (g vm.GRUB, err error) {
	if l.variant != arm64.variant {
		return vm.MakeGRUB(k.work, script)
	}
	tools, err := vm.FindArmTools(k.cache + "-arm64")
	if err != nil {
		return g, err
	}
	g.EFI, err = tools.MakeArmGRUB(k.work, script)
	return g, err
}

// efi is what UEFI starts of a disk that it knows nothing of.
func (l loader) efi() string {
	if l.variant == arm64.variant {
		return "EFI/BOOT/BOOTAA64.EFI"
	}
	return "EFI/BOOT/BOOTX64.EFI"
}

// bootSize is the size of its boot partitions, in MiB.
func (l loader) bootSize() int {
	switch l.variant {
	case arm64.variant:
		return 52 // kernels of arm64 unpack nothing: they lie there as large as they are
	case hasWatchdog.variant, ownInitramfs.variant:
		return 26 // a kernel or an initramfs with more in it
	}
	return bootSize
}

// rootSize is the size of its root partitions, in MiB.
func (l loader) rootSize() int {
	if l.variant == hasApps.variant {
		return 2 * rootSize // a container runtime, with its libraries
	}
	return rootSize
}

// slotA returns the partitions of both slots, of which a is filled.
func (k *kit) slotA(l loader, version string) []vm.Partition {
	return []vm.Partition{
		{Label: "boot-a", Type: "8300", MiB: l.bootSize(), Image: k.content(l, version, "boot")}, {Label: "boot-b", Type: "8300", MiB: l.bootSize()},
		{Label: "root-a", Type: "8300", MiB: l.rootSize(), Image: k.content(l, version, "root")}, {Label: "root-b", Type: "8300", MiB: l.rootSize()},
	}
}

// Where the partitions begin, in bytes.
const (
	bootEnvAt = (1 + 1 + 8) * mib
	bootAt    = bootEnvAt + mib
	rootAt    = bootAt + 2*bootSize*mib
	dataAt    = rootAt + 2*rootSize*mib
)

// describe returns what a boot record says of a release.
func describe(m release.Manifest) map[partitions.Slot]bootloader.Description {
	d := bootloader.Description{Version: m.Version, Images: map[string]release.Digest{}}
	for _, i := range m.Images {
		d.Images[i.Name] = i.Root
		if i.Name == "root" {
			d.Root, d.Salt, d.HashOffset = i.Root, i.Salt, i.Size
		}
	}
	return map[partitions.Slot]bootloader.Description{partitions.A: d}
}

// grubRecord returns the files of a record in which slot a stands with a release.
func grubRecord(dir string, m release.Manifest) (map[string][]byte, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	blocks, err := grub.MakeFiles(dir)
	if err != nil {
		return nil, err
	}
	var s bootloader.State
	if err := grub.Create(blocks, s.Commit(partitions.A), describe(m)); err != nil {
		return nil, err
	}
	return filesBelow(dir, "twinkeel/")
}

// filesBelow returns the files of a directory, with a prefix before their names.
func filesBelow(dir, prefix string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[prefix+strings.TrimPrefix(path, dir+"/")] = b
		return err
	})
	return files, err
}
