package disks

import (
	"fmt"

	"github.com/twinkeel/twinkeel/internal/verity"
)

// The least sizes, and what is added for a loader, in bytes.
const (
	minESP    = 64 * mib // FAT32 begins at 33 MiB
	minData   = 64 * mib
	coreSize  = 1 * mib // room for GRUB's core
	envSize   = 1 * mib // a FAT for GRUB's part of the boot record
	maxOfDisk = 1 << 50
)

// room returns the size of a partition for an image: as configured, or twice what the
// image needs today.
func (b *builder) room(name string, configured int64) int64 {
	size := b.o.Images[name].Size
	need := roundUp(size + verity.TreeSize(size))
	if configured > 0 {
		return roundUp(configured)
	}
	return 2 * need
}

func roundUp(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

// plan decides on the partitions, and returns the size of the disk.
func (b *builder) plan() (int64, error) {
	for _, n := range []int64{b.o.Size, b.o.ESP, b.o.Root, b.o.Boot, b.o.Data.Size} {
		if n < 0 || n > maxOfDisk {
			return 0, fmt.Errorf("size: got %d bytes, want 0 to %d", n, int64(maxOfDisk))
		}
	}
	root, boot, esp := b.room(imageRoot, b.o.Root), b.room(imageBoot, b.o.Boot), roundUp(b.o.ESP)
	if esp == 0 {
		esp = minESP
		if b.o.Loader == SDBoot {
			esp += 2 * boot // a kernel image for each slot
		}
	}
	if b.bios() {
		b.parts = append(b.parts, partition{label: "bios", kind: typeBIOSBoot, size: coreSize})
	}
	b.parts = append(b.parts, partition{label: "esp", kind: typeESP, size: esp})
	if b.o.Loader == GRUB {
		b.parts = append(b.parts, partition{label: "bootenv", kind: typeLinux, size: envSize})
	}
	b.parts = append(b.parts,
		partition{label: "root-a", kind: typeLinux, size: root}, partition{label: "boot-a", kind: typeLinux, size: boot},
		partition{label: "root-b", kind: typeLinux, size: root}, partition{label: "boot-b", kind: typeLinux, size: boot},
		partition{label: "data", kind: typeLinux, size: max(roundUp(b.o.Data.Size), b.o.Data.least())})
	size := arrange(b.parts)
	if b.o.Size > 0 {
		want := b.o.Size / alignment * alignment
		if want < size {
			return 0, fmt.Errorf("disk: got %d bytes, want at least %d: root %d and boot %d for each of two slots, ESP %d, data %d",
				b.o.Size, size, root, boot, esp, b.parts[len(b.parts)-1].size)
		}
		if b.o.Data.Size == 0 {
			b.parts[len(b.parts)-1].size += want - size
		}
		size = want
	}
	b.r = Result{Size: size, Loader: b.o.Loader, Version: b.o.Version, Roots: map[string]digests{}}
	for _, p := range b.parts {
		b.r.Partitions = append(b.r.Partitions, ResultPartition{p.label, p.start, p.size})
	}
	return size, nil
}

// bios reports whether the disk is one that a BIOS can start.
func (b *builder) bios() bool { return b.o.Loader == GRUB && b.o.Sector == sector }

// part returns the partition with this label, which plan made.
func (b *builder) part(label string) partition {
	for _, p := range b.parts {
		if p.label == label {
			return p
		}
	}
	return partition{}
}

// number is that of the partition in the table.
func (b *builder) number(label string) int {
	for i, p := range b.parts {
		if p.label == label {
			return i + 1
		}
	}
	return 0
}
