// Package gptbits reads and writes the boot record in the attributes of GPT entries, as
// ChromeOS, CoreOS Container Linux and Flatcar have it: priority in bits 48 to 51, tries
// in bits 52 to 55, successful in bit 56 of a kernel's or root's partition. Tests hold it
// against sgdisk.
//
// It is a codec: no machine has booted by it, and it is no backend. No loader of a stock
// Debian reads these bits, and an update of this project never writes a partition table.
//
// The package imports partitions/bootloader.
package gptbits
