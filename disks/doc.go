// Package disks lays out the disk that a new host starts from.
//
// A Disk is a file: a GUID partition table; a stock boot loader (GRUB for BIOS and UEFI,
// or systemd-boot for UEFI) in an ESP, beside the boot record; the slots a and b, each a
// root and a boot partition; and a data partition. Slot a holds a release, with its hash
// trees, read back and compared with its verity roots, and is committed in the record.
// The data partition holds what makes the host one of its fleet: configuration, factory
// root, and the release's manifest, with which the agent adopts the slot.
//
// Create needs no root, no loop device and no mount: everything is written by offset, and
// file systems are made by the ordinary tools of Debian from directories (mke2fs,
// mkfs.xfs, mkfs.btrfs, mkfs.vfat, mtools), the loader's image by grub-mkimage. A Disk
// comes into being whole: what fails leaves no file.
//
// The boot record is written by the very code that a host reads it with, packages grub
// and sdboot below partitions/bootloader. This package imports those, partitions,
// internal/verity and release, and, to see whether slot a can mount its data, internal/cpio
// and internal/erofs.
package disks
