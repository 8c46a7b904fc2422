// Package report is what the first stage and its guard tell the system that runs, in this
// boot or in a later one, and how that reads it.
//
// They Save the end of the kernel's log, one file for each slot, on the data partition:
// what a slot had to say before it was left. A kernel that panics saves its log itself, if
// the firmware or a piece of memory keeps it (pstore); nobody else can then. Last looks
// for both. Damage of the root that runs is told by a file that lasts as long as the boot.
//
// Everything that is read was written by a system that failed, or by whoever broke it: it
// is bounded, and made text. The package knows slots and verity roots; it never imports
// what decides about them.
package report
