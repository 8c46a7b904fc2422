// Package ext4 knows how the Fourth Extended File System lies on a disk.
//
// Walk tells of each regular file of an image its path, its size and the ranges of the
// image that hold it, in the file's order. That is all that is needed to compare two
// images file by file.
//
// The nouns: a group is a run of blocks with a table of inodes; its descriptor says where
// the table is; an extent is a range of the image; the blocks of a file are found by a
// tree of extents, or in older file systems by blocks of block numbers.
//
// An image may be anyone's. Whatever it holds, Walk ends, with an error if need be, reads
// nothing outside of it, and takes memory in proportion to what it finds, within limits.
// What it says of a damaged image may be wrong.
//
// It reads what Linux's Documentation/filesystems/ext4 describes, without regard to a
// journal that was not replayed, and writes nothing. It imports
// internal/filetree and nothing else of this module.
package ext4
