// Command debian shows a real Debian that updates itself: a machine in an emulator, from a
// disk that `twinkeel-server disk create` made of images that build.sh made, boots by stock
// GRUB, finds the state with all of Debian's security fixes on a server on loopback, takes
// it by delta, tries it, and commits it once boot-complete.target is reached and its probes
// pass. The release after that has a mistake in the configuration of its ssh server; the
// machine is back on the good one by itself.
//
//	make debian
//
// Nobody tells the machine anything: it is told apart from outside, by its console. It
// needs the packages of `.ci/install demo` and `.ci/install e2e`, and root for build.sh alone.
package main
