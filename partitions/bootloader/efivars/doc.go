// Package efivars reads and writes UEFI variables, as Linux shows them in efivarfs.
//
// A file there is called NAME-GUID and holds four bytes of attributes, little-endian, and
// the value; a variable is replaced by one write of all of it, after the flag is taken
// from the file that protects variables against `rm -rf`. With BootNext the firmware
// starts another entry once; BootOrder says which one it starts otherwise. Formats: UEFI
// 2.10, chapters 3.1 and 8.2, and Linux's Documentation/filesystems/efivarfs.rst; tests
// hold them against efibootmgr.
//
// It is a codec: no machine was updated by it, and it is no backend. The firmware counts
// no trials, so a trial by BootNext is tried once.
//
// The package imports x/sys/unix.
package efivars
