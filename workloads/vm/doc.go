// Package vm is what isolation level vm needs around QEMU, and what host and guest say to
// each other.
//
// A Machine becomes QEMU's command line. Its guest is either a kernel of the
// application's own, or a Linux kernel with an initramfs that Initramfs packs: the
// program of package guest as its init, the modules that the machine's devices need, and
// an Order, which says what to run. Host and guest talk over one serial port of the
// machine in frames: the guest says how the application started and how it ended, the
// host sends signals, runs commands, and asks for ports.
//
// The guest is not believed. Whatever a Line reads is bounded before it is kept; a guest
// that says what the protocol does not know, or more than it was allowed to, is cut off.
// The guest gets nothing of the host's but its disks: its image read-only, and a disk for
// each volume.
//
// The package knows no application and imports nothing of twinkeel.
package vm
