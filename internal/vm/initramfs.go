package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/internal/cpio"
)

// modules are what the guest loads, in this order; none of them is built into Debian's
// cloud kernel.
var modules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "drivers/block/virtio_blk",
	"fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/fat/fat", "fs/fat/vfat", "fs/efivarfs/efivarfs",
}

// firstStageModules are what twinkeel-init needs for a root, a data partition, a boot record
// and a network on virtio.
var firstStageModules = append(modules[:len(modules)-1:len(modules)-1],
	"net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
	"drivers/md/dm-mod", "lib/reed_solomon/reed_solomon", "drivers/md/dm-bufio", "drivers/md/dm-verity",
	"lib/libcrc32c", "fs/erofs/erofs", "fs/overlayfs/overlay", "drivers/watchdog/watchdog", "drivers/watchdog/softdog",
	"fs/pstore/ramoops", "drivers/firmware/efi/efi-pstore", "fs/efivarfs/efivarfs")

// fullModules are what Debian's full kernel needs before those: it has as modules what the
// cloud kernel has built in, and drivers of hardware.
var fullModules = []string{
	"lib/crc16", "crypto/crc32c_generic", "fs/mbcache", "fs/jbd2/jbd2", "fs/ext4/ext4",
	"drivers/watchdog/watchdog", "drivers/watchdog/i6300esb", "arch/x86/kernel/msr",
}

// armModules are what the cloud kernel for arm64 needs before those.
var armModules = []string{"drivers/dax/dax"}

// ContainerModules are what a kernel needs beside those for applications in containers: their
// images are files, mounted over loop devices.
var ContainerModules = []string{"drivers/block/loop"}

// FirstStage returns an uncompressed initramfs whose init is twinkeel-init, at the given
// path, and that has more modules than that needs.
func (t Tools) FirstStage(init string, more ...string) ([]byte, error) {
	var a cpio.Archive
	a.Add(".", cpio.Directory|0o755, nil)
	for _, dir := range []string{"dev", "proc", "sys", "run", "modules", "sysroot", "mnt"} {
		a.Add(dir, cpio.Directory|0o755, nil)
	}
	b, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	a.Add("init", cpio.Regular|0o755, b)
	var before []string
	switch name := filepath.Base(t.Kernel); {
	case strings.Contains(name, "arm64"):
		before = armModules
	case !strings.Contains(name, "cloud"):
		before = fullModules
	}
	list := slices.Concat(before, firstStageModules, more)
	if err := t.addModules(&a, "modules", list); err != nil {
		return nil, err
	}
	return a.Bytes(), nil
}

// addModules adds modules to dir, named so that their names sort as they are given.
func (t Tools) addModules(a *cpio.Archive, dir string, list []string) error {
	for i, m := range list {
		b, err := os.ReadFile(filepath.Join(t.Modules, m+".ko"))
		if err != nil {
			return err
		}
		a.Add(fmt.Sprintf("%s/%02d-%s.ko", dir, i, filepath.Base(m)), cpio.Regular|0o644, b)
	}
	return nil
}

// Initramfs returns an uncompressed initramfs: guest as its init, the modules, and the
// file /release with the given content, by which a booted slot is known.
func (t Tools) Initramfs(guest, release string) ([]byte, error) {
	var a cpio.Archive
	a.Add(".", cpio.Directory|0o755, nil)
	for _, dir := range []string{"dev", "proc", "sys", "mod", "efi"} {
		a.Add(dir, cpio.Directory|0o755, nil)
	}
	init, err := os.ReadFile(guest)
	if err != nil {
		return nil, err
	}
	a.Add("init", cpio.Regular|0o755, init)
	a.Add("release", cpio.Regular|0o644, []byte(release+"\n"))
	if err := t.addModules(&a, "mod", modules); err != nil {
		return nil, err
	}
	return a.Bytes(), nil
}
