// Package sdboot keeps the boot record in systemd-boot's entries.
//
// In the file system that systemd-boot reads (the ESP, or XBOOTLDR) lie
//
//	loader/entries/twinkeel-SEQ-SLOT.conf               a committed slot
//	loader/entries/twinkeel-SEQ-SLOT+LEFT-DONE.conf     a slot on trial
//	twinkeel/a.efi, b.efi                               the slots' unified kernel images
//	twinkeel/record                                     what entries cannot hold
//
// The loader starts the greatest name that has trials left, or is not counted, and takes
// one from LEFT in the name before it does; that much is its own. So the entry of the
// slot that comes first has the highest sequence number. An entry is small text that
// leads to the slot's kernel and carries the slot's description on the command line. The
// kernel itself never changes its name: whatever a power cut does to a name on a FAT, it
// costs one small entry, never a kernel of many megabytes, and the partition of the slot
// still holds the kernel that the copy was made from.
//
// Linux never renames. It adds an entry, then removes the one that it replaces. Both
// hinge on one sector: an entry exists from the write of its last sector on, which holds
// the line without which systemd-boot ignores it, and until that sector is blanked. Names
// come and go only for files that are no entries. Load reads the entries as the loader
// does: where they and the record differ, they are right. The loader alone renames; after
// a cut in that, both names or none lead to the trial, which ends within as many boots as
// the names say, and the other slot's entry is untouched.
//
// systemd-boot starts a trial also if it could not save its counter, which GRUB's script
// refuses. That is the one promise of package bootloader that this backend cannot keep.
//
// The package imports partitions, partitions/bootloader, its running and record, release
// and x/sys/unix.
package sdboot
