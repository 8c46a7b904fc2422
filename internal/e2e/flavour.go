package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
	"github.com/twinkeel/twinkeel/release"
)

// espSize is the size in MiB of an ESP that holds two unified kernel images.
const espSize = 64

// sdFactory writes a disk that has a release in slot a, committed, for systemd-boot.
func (k *kit) sdFactory(name string, m release.Manifest, raw []byte, boot string) (string, error) {
	esp := filepath.Join(k.work, "esp")
	if err := os.MkdirAll(esp, 0o755); err != nil {
		return "", err
	}
	f, err := sdboot.MakeFiles(esp)
	if err != nil {
		return "", err
	}
	var s bootloader.State
	kernels := f.Kernels(func(partitions.Slot) (partitions.OpenDevice, error) { return partitions.OpenRead(boot) })
	if err := sdboot.Create(f.Entries, f.Record, kernels, s.Commit(partitions.A), describe(m)); err != nil {
		return "", err
	}
	files, err := filesBelow(esp, "")
	if err != nil {
		return "", err
	}
	if files["EFI/BOOT/BOOTX64.EFI"], err = os.ReadFile(vm.SDBoot); err != nil {
		return "", err
	}
	parts := k.slotA(systemdBoot, m.Version.String())
	data, err := k.dataImage(raw)
	if err != nil {
		return "", err
	}
	disk := filepath.Join(k.work, name)
	return disk, vm.Make(disk, k.work, append([]vm.Partition{{Label: "esp", Type: "ef00", MiB: espSize, Files: files}},
		append(parts, vm.Partition{Label: "data", Type: "8300", MiB: dataSize, Image: data})...))
}

// ukiImage makes what systemd-boot starts.
func (k *kit) ukiImage(image, version string) error {
	b, err := vm.UKI(k.work, k.cloud.path, k.cloud.initramfs, cmdline+" twinkeel.record=PARTLABEL=esp e2e="+version)
	if err != nil {
		return err
	}
	b = append(b, make([]byte, -len(b)&(release.BlockSize-1))...)
	if len(b) > (bootSize-1)*mib {
		return fmt.Errorf("unified kernel image: got %d bytes, want at most %d MiB", len(b), bootSize-1)
	}
	return os.WriteFile(image, b, 0o644)
}
