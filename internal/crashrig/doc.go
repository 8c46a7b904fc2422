// Package crashrig finds out what a real file system keeps when the power fails.
//
// Serve is a file system in user space with one file in it, a Disk in memory that records
// every write and every flush. With a loop device over that file, the kernel's own ext4,
// xfs or btrfs writes into the record whatever a workload makes it write. A crash state
// is what a power cut may have left at some moment: everything before the last flush,
// and of what came after it any part, in any order, torn at sectors. Each state is
// mounted, which replays the journal, and what was acknowledged has to be there.
//
// It needs root, /dev/fuse and a loop device. It is imported by tests, and by the command
// that writes docs/PROOF.md. Source of the messages: linux/fuse.h of the kernel.
package crashrig
