// Package cpio writes archives as a Linux kernel unpacks them into its first file system:
// cpio's form "newc". Everything in them belongs to root and has no time, so that the same
// entries make the same bytes. Walk lists what is in archives, whoever made them: whatever
// it is given, it ends, and reads nothing but headers and names.
//
// Source: linux/Documentation/driver-api/early-userspace/buffer-format.rst.
package cpio
