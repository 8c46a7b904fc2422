// Command twinkeel-init is the init of an initramfs: it opens the slot that the boot
// loader chose, through dm-verity, and hands over to the slot's own init.
//
// It takes no arguments; the kernel's command line is its order. What it has to say it
// says to the kernel's log, as "twinkeel-init: ", which shows it on the console. As
// "@twinkeel-guard" it is the process that stays behind and watches the boot.
//
// In an initramfs that was packed for an application of isolation level vm it is the init
// of that machine instead (package workloads/vm/guest).
package main
