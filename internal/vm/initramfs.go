package vm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// modules are what the guest loads, in this order; none of them is built into Debian's
// cloud kernel.
var modules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "drivers/block/virtio_blk",
	"fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/fat/fat", "fs/fat/vfat", "fs/efivarfs/efivarfs",
}

// Initramfs returns an uncompressed initramfs: guest as its init, the modules, and the
// file /release with the given content, by which a booted slot is known.
func (t Tools) Initramfs(guest, release string) ([]byte, error) {
	var a archive
	a.add(".", 0o040755, nil)
	for _, dir := range []string{"dev", "proc", "sys", "mod", "efi"} {
		a.add(dir, 0o040755, nil)
	}
	init, err := os.ReadFile(guest)
	if err != nil {
		return nil, err
	}
	a.add("init", 0o100755, init)
	a.add("release", 0o100644, []byte(release+"\n"))
	for i, m := range modules {
		b, err := os.ReadFile(filepath.Join(t.Modules, m+".ko"))
		if err != nil {
			return nil, err
		}
		a.add(fmt.Sprintf("mod/%02d-%s.ko", i, filepath.Base(m)), 0o100644, b)
	}
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes(), nil
}

// archive is a cpio archive in the form that the kernel reads ("newc").
type archive struct {
	bytes.Buffer
	inode int
}

// add appends a file or directory.
func (a *archive) add(name string, mode uint32, content []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }
