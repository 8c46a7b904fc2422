// Command e2e updates a machine for real: stock firmware, boot loader and kernel in an
// emulator, twinkeel-init and the real agent in its slots, and a real update server on
// the loopback of whoever runs it.
//
//	e2e [-run REGEXP] [-cuts N] [-prefixes N] [-torn N] [-seed N] [-all]
//
// It builds a small operating system in several releases, good and bad ones, writes a
// disk that has the first one in slot a, and tells each case on a copy of that disk. What
// it checks of a machine it checks from outside, on the console and on the disk: that it
// ends on a slot within a number of boots, never how many tries that took, because an
// emulator on a busy machine loses a boot now and then. It ends with "N passed, N failed",
// and keeps disk and console of what failed. Chance comes from one seed, which it prints.
//
// It needs what `.ci/install e2e` installs, and neither root nor a network.
package main
