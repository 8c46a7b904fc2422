// Command demo updates a real Debian with the real commands, on a disk with partitions
// and a file system for the host's data. It needs root, and nothing but this machine:
//
//	make demo
//
// images.sh builds the releases from Debian's archive: what was released, what it is with
// every fix since then, and that with a mistake in it. The host's slots are partitions of
// a disk image; its firmware looks for a kernel in the slot's boot partition; the root
// partition of the slot it picked is mounted and the web server in it is started, which
// the health probes then look at. Only the kernel is not started: the processes run on
// the kernel of this machine, in a process and mount namespace that takes everything with
// it when it ends.
package main
