// Package running reads from the running kernel which slot it was started from, for the
// backends whose loader says so on the kernel's command line.
//
// The package imports partitions and partitions/bootloader.
package running
