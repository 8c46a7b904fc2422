// Package backends opens the boot loader of a host, by name or by what is there.
//
// It is the one place that knows all backends; everybody else knows BootLoader. It reads
// the file system only to find a boot record, and writes nothing.
package backends
