// Package record keeps a boot record, and what the slots hold, in plain storage.
//
// The storage is a regular file of fixed size or a small partition, of areas of 4 KiB:
// the record twice, and the description of each slot. Each area is one JSON value behind
// a checksum; values of a newer format keep the fields that this code does not know. The
// two copies obey the one rule of package bootloader. The backends whose loader does not
// read all of a record itself, simulated and sdboot, keep it here.
//
// The package imports partitions, partitions/bootloader and release.
package record
