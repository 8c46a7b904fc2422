// Package boot is the way from the boot loader to the operating system: the first stage
// in the initramfs, and the guard that it leaves behind.
//
// The loader's command line is an Order: a slot, and the verity root of what it must
// hold. A Stage carries it out: it opens the slot's root through dm-verity, mounts it
// read-only, lays the data partition beside it and writable layers over /etc and /var,
// and hands over to the root's own init. What it cannot start it leaves: it makes the
// other slot the one that stands, if that can boot, and reboots; nothing it does repeats
// without a bound or a pause. The Guard is a process that outlives the first stage. It
// needs nothing of the root: it reboots out of a trial that nobody commits in time, with
// a watchdog behind it, and out of a slot whose root turns out to be damaged.
//
// The package writes of the boot record only that a slot is left; trials, verdicts and
// commits are the agent's. It knows nothing of releases, trust or networks.
package boot
