// Command guest is the only program in a virtual machine of package vm: PID 1 of the
// initramfs that a slot under test holds.
//
// It says on the console which slot it is and what the boot record holds, and then
// carries out orders, one a line, with the project's own boot loader backends on the
// machine's own disk:
//
//	arm a|b N      make a slot the trial, N times; describes it first if it is cleared
//	commit         the running slot stands
//	revert         the running slot is left
//	clear a|b      the slot must not boot
//	show           say again what the record holds
//	noise FILE     overwrite the first 512 bytes of a file below the loader's directory
//	remove FILE    remove a file there
//	list DIR       say what a directory there holds
//	copy FROM TO   copy a file there
//	mount LABEL    take the file system of that partition for the loader's directory
//	reboot, off
//
// Every answer begins with "VM ".
package main
