// Package erofs knows how the Enhanced Read-Only File System lies on a disk.
//
// Walk tells of each regular file of an image its path, its size and where in the image
// its bytes are: as they are, or compressed. That is all that is needed to compare two
// images file by file.
//
// The nouns: an inode is found by its nid, which counts places of 32 bytes from the
// metadata's first block; an extent is a range of the image; a tail is the last, partial
// block of a file, which may lie right behind its inode.
//
// An image may be anyone's. Whatever it holds, Walk ends, with an error if need be, reads
// nothing outside of it, and takes memory in proportion to what it finds, within limits.
// What it says of a damaged image may be wrong.
//
// It reads what Linux's fs/erofs/erofs_fs.h describes, without extra devices, and writes
// nothing. It imports internal/filetree and nothing else of this module.
package erofs
