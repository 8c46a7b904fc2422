// Package verity computes dm-verity hash trees: what a kernel checks an image with,
// and, at once, what twinkeel names an image by.
//
// The tree is dm-verity format 1 with SHA-256 and 4 KiB blocks, without a superblock,
// lying directly behind the data, its top level first: the bytes that
//
//	veritysetup format --no-superblock --hash=sha256 --data-block-size=4096 \
//	  --hash-block-size=4096 --salt=SALT --data-blocks=N --hash-offset=SIZE FILE FILE
//
// writes. The hash of a block is SHA-256(salt, block). A leaf block holds the hashes of
// 128 data blocks, which is one span of 512 KiB; the hash of a leaf block is the span's
// node. The levels above hash the leaf blocks in the same way, up to one block, whose
// hash is the root.
//
// A span can be hashed with nothing but its own bytes (HashSpan). So an image may be
// hashed in any order and by many threads, and a segment of a container, being whole
// spans, is verified by nodes that the tree needs anyway (SegmentDigest). What must be
// kept of an image until its root is known is 32 bytes for each span: 1/16384.
//
// Images have at least two blocks: over a single data block dm-verity has no hash block
// at all. The package imports release for its Digest and otherwise the standard library.
package verity
