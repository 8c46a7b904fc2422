// Package simulated is a boot loader whose firmware is a method call.
//
// The boot record lies in a regular file or a small partition of five areas of 4 KiB:
// the record twice, the description of each slot, and the boot that the machine is in.
// Each area is one JSON value behind a checksum; values of a newer format keep the
// fields that this code does not know. PowerOn does what firmware and a loader such as
// GRUB do: it picks the slot by State.Next, durably takes one try from a trial and
// reads that back before it starts it, and falls back in the same boot when the slot
// cannot be loaded. So the demonstration, the tests and the simulator run an agent on
// a loader that obeys the rules of package bootloader, with nothing left to boot for
// real.
//
// The package imports partitions, partitions/bootloader and release.
package simulated
