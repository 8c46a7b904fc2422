// Package grub keeps the boot record in GRUB environment blocks.
//
// Four files of 1024 bytes lie in one directory of a file system that GRUB can write to
// through plain block lists (FAT, or ext2/ext4 without anything below it that moves
// blocks): grubenv and grubenv2, the record twice, and slota and slotb, the description
// of each slot. Who does what:
//
//   - GRUB, by the script that Snippet returns, reads grubenv; if that is damaged it
//     reads grubenv2 and starts no trial. It writes one thing only: the tries of the slot
//     that it is about to try, one digit, in place, in grubenv; and it reads that back.
//   - Linux, this package, reads by the same rule. Store writes grubenv2, then grubenv;
//     Describe writes slota or slotb. All writes are in place and of whole sectors,
//     without truncating, renaming or growing a file, because GRUB finds the file by
//     where its blocks are. They bypass the page cache, which would write 4096 bytes.
//
// All variables that this package owns begin with twinkeel_ and lie in the first 512
// bytes, so that one sector changes at a time. Whatever else is in the blocks stays as
// it is, byte for byte. The script is generated once, when the loader is installed; an
// update never writes grub.cfg.
//
// The package imports partitions, partitions/bootloader, release and x/sys/unix.
package grub
