// Package ubootenv reads and writes U-Boot's environment.
//
// An environment is NUL-terminated name=value pairs, ended by an empty one, behind a
// CRC-32 of all that follows. A redundant one is there twice, with a byte of flags behind
// the CRC: of two sound copies the one whose flags are newer counts, 0 being newer than
// 255. Pair writes the copy that does not count, so a cut leaves the old environment. The
// format is that of U-Boot's env/common.c and tools/env/fw_env.c; tests hold it against
// mkenvimage, fw_printenv and fw_setenv.
//
// It is a codec: no machine with U-Boot has booted by it, and it is no backend.
//
// The package imports partitions/bootloader.
package ubootenv
