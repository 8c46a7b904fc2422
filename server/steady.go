package server

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/internal/verity"
)

// Where an image changes a little almost everywhere, its builder wrote something that
// differs with each build. Deltas then cost megabytes for nothing.
const (
	fewBytes   = 64  // a block of which so many bytes differ, or fewer, differs a little
	manyBlocks = 64  // so many of them are not chance
	lessThan   = 0.1 // of the blocks that differ in place, if fewer differ a little, it is none of it
)

// unsteady compares two images of a partition that lead to each other, and says what of
// the difference is probably the builder's doing and no content's, with what to do.
func unsteady(ctx context.Context, old, now *image) ([]string, error) {
	var found []string
	for _, text := range compareHeaders(old.file, now.file) {
		found = append(found, fmt.Sprintf("image %s: %s", now.name, text))
	}
	a, b := make([]byte, verity.NodeSpan), make([]byte, verity.NodeSpan)
	size := min(old.size, now.size)
	var differ, little, sum int64
	for at := int64(0); at < size; at += verity.NodeSpan {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(verity.NodeSpan, size-at)
		if err := readSpan(old.file, a[:n], at); err != nil {
			return nil, err
		}
		if err := readSpan(now.file, b[:n], at); err != nil {
			return nil, err
		}
		for k := int64(0); k < n; k += verity.BlockSize {
			end := min(k+verity.BlockSize, n)
			switch d := differing(a[k:end], b[k:end]); {
			case d > fewBytes:
				differ++
			case d > 0:
				differ, little, sum = differ+1, little+1, sum+int64(d)
			}
		}
	}
	if little >= manyBlocks && float64(little) >= lessThan*float64(differ) {
		found = append(found, fmt.Sprintf("image %s: %d of the %d blocks that differ in place differ by %d bytes on average: "+
			"something changes with each build, such as times or identifiers in every inode; "+
			"set SOURCE_DATE_EPOCH, give files one time (mkfs.erofs -T, mksquashfs -all-time) and sort the tree",
			now.name, little, differ, (sum+little-1)/little))
	}
	return found, nil
}

func readSpan(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read image at %d: %w", at+int64(n), err)
	}
	return nil
}

// differing counts the bytes that differ, up to a little more than fewBytes.
func differing(a, b []byte) (n int) {
	if bytes.Equal(a, b) {
		return 0
	}
	for i := range a {
		if a[i] != b[i] {
			if n++; n > fewBytes {
				break
			}
		}
	}
	return n
}

// field is a field of a file system's superblock that a builder can keep from changing.
type field struct {
	system string
	magic  string
	at     int64 // of the magic
	offset int64
	size   int
	text   string
}

// fields come from fs/erofs/erofs_fs.h, fs/ext4/ext4.h and fs/squashfs/squashfs_fs.h of Linux.
var fields = []field{
	{"EROFS", "\xe2\xe1\xf5\xe0", 1024, 1024 + 48, 16, "UUID changes with each build: give mkfs.erofs -U the same one"},
	{"ext4", "\x53\xef", 1024 + 0x38, 1024 + 0x68, 16, "UUID changes with each build: give mke2fs -U the same one"},
	{"ext4", "\x53\xef", 1024 + 0x38, 1024 + 0xec, 16, "hash seed changes with each build, and with it the order of directories: give mke2fs -E hash_seed= the same one"},
	{"EROFS", "\xe2\xe1\xf5\xe0", 1024, 1024 + 24, 12, "build time changes: give mkfs.erofs -T the same one"},
	{"ext4", "\x53\xef", 1024 + 0x38, 1024 + 0x108, 4, "creation time changes: set E2FSPROGS_FAKE_TIME"},
	{"squashfs", "hsqs", 0, 8, 4, "creation time changes: give mksquashfs -mkfs-time the same one"},
}

// compareHeaders says what superblocks differ in that they need not.
func compareHeaders(old, now io.ReaderAt) (found []string) {
	const head = 2048
	a, b := make([]byte, head), make([]byte, head)
	if readSpan(old, a, 0) != nil || readSpan(now, b, 0) != nil {
		return nil // too short for any of them
	}
	for _, f := range fields {
		has := func(img []byte) bool { return string(img[f.at:][:len(f.magic)]) == f.magic }
		if has(a) && has(b) && string(a[f.offset:][:f.size]) != string(b[f.offset:][:f.size]) {
			found = append(found, f.system+": "+f.text)
		}
	}
	return found
}
