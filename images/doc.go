// Package images makes the images of a release from a root file system.
//
// The source is a directory, or an uncompressed tar archive, which needs no root for its
// owners. The root image is an uncompressed EROFS. The boot image holds the kernel, which
// leaves the root, and an initrd: twinkeel-init with the modules that it needs, if the source
// has it, else the distribution's, unpacked. It is a tar archive, which GRUB reads as a file
// system, or one unified kernel image for systemd-boot. Everything is uncompressed
// where its reader takes it so, because a delta sees through what it can read.
//
// The same source gives the same bytes, on any machine and in any directory: times after
// Options.Time become it, and what differs from build to build or belongs to one machine
// (Rules says which) is refused with the reason, or left out if Options.Tidy asks for it.
//
// It imports internal/erofs/mkfs.
package images
