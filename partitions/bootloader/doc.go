// Package bootloader says which slot boots next.
//
// The boot record holds, for each slot, {Priority, Tries, Successful}. A slot is
// bootable if its priority is not 0 and it is either successful or has tries left;
// the loader takes the bootable slot with the highest priority and, if that slot is
// not yet successful, takes one from its tries before it starts it. State changes by
// pure methods (Clear, Arm, Commit, Revert): load, change in memory, store once.
//
// A BootLoader backend makes Store durable before it returns. Where it needs two
// writes it lowers the standing slot before it raises the new one. bootloadertest is
// the one suite that every backend passes.
//
// The backends here keep the record twice and share one rule. The first copy counts if
// it is sound, else the second. Store flushes what others may have left unflushed, writes
// the second copy, flushes, and only then the first; a first copy that it finds damaged it
// repairs before. At every moment one of them is whole, and reader and loader, which go by
// the same rule, agree which. The loader counts trials in the first copy only; when it has
// to go by the second one it starts no trial. So the older content that a second copy can
// hold after a crash never decides over an unproven slot. What systemd-boot goes by are
// names of files: sdboot makes them anew where it cannot know that they are on the disk.
//
// The package itself does no input or output; it imports partitions and release.
package bootloader
