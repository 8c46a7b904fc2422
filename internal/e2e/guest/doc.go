// Command guest is the operating system of the small machine that package e2e updates:
// the init of its slots, in as many lines as it takes.
//
// It brings up the network, a service and the real agent, and says on the console what
// happens, each line beginning with "VM ". From the console it takes orders, one a line:
//
//	run COMMAND...   runs a command; its output follows, then "VM ran CODE"
//	show PATTERN...  prints small files
//	fill FILE        makes a file that takes all room there is
//	remove FILE      removes it
//	reboot, off
//
// /etc/e2e in the slot holds one word, which is how the release behaves: good, panic,
// unhealthy, hang, stuck, hog, standstill, noagent, badconfig, newformat, badapp. The first message, "VM up", says which slot and release
// run, and what is at hand: the data partition written, read-only or missing.
package main
