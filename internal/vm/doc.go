// Package vm boots disks for real: firmware, stock boot loader, stock kernel.
//
// A Machine is a QEMU process (emulated, never KVM: nested KVM is often there and
// seldom works) with one disk and a serial console. Whoever drives it waits for lines on
// that console and types orders to the guest, package vm/guest, which is the only program
// in the initramfs: it runs the project's own boot loader backends on the machine's own
// disk. Make lays out a disk, MakeGRUB and UKI make what boots from it, with ordinary file
// tools: nothing here needs root, a loop device or a mount. A machine can keep a log of
// every write to its disk, of which Cut makes what a power cut would leave.
//
// The tests of this package are what the backends' models cannot be: they show that the
// real GRUB and the real systemd-boot read what the backends write, and the other way
// round. They need the packages of `.ci/install e2e`; without those they are skipped,
// and fail where the environment says CI.
//
// The package knows nothing of releases, trust or agents.
package vm
