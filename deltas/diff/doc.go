// Package diff makes containers: the publisher's half of package deltas.
//
// Create compares two images, or packs one, in five steps.
//
//  1. Index: the old image is read once. Each span gives a node of its verity tree, each
//     block an 8-byte hash. Only the hashes stay in memory, 16 bytes for each 4 KiB.
//  2. Match: the new image is read once, in chunks. A rolling hash finds old blocks at
//     any byte offset of the new image; what it finds is compared byte for byte and grown
//     in both directions. Runs of zero bytes become ZERO, matches COPY, the rest DATA.
//  3. Align: what is left of the new image is aligned with what is
//     left of the old one, wherever most bytes are alike, by sorting the suffixes of the
//     latter. In an EROFS or ext4 image, first what is left of each file is aligned with
//     what is left of the file it probably comes from: of the same path, of one that
//     differs in numbers, or of content that is alike. Then all that is left is aligned
//     with all that is left; of other images, that is everything. In programs, which are
//     found by their ELF headers, references are blanked for that. It becomes DIFF.
//  4. Cut: the image is cut into segments within the limits of package deltas.
//  5. Code: each block of DIFF gets the mode that predicts it best. Streams of a delta are
//     coded adaptively, those of a full image by zstd, and what gains nothing stays raw.
//
// Chunks and segments are worked on by several threads, but where they begin and end,
// and what each becomes, depends on the two images alone: the output is the same with
// any number of threads.
//
// Memory follows what changed: four bytes for each byte of a file that changed, of one
// large file or several small ones at a time. That is at most 450 MiB; segments that are
// coded, and garbage, come on top.
//
// Verify applies a container as a host does. A publisher signs nothing that it has not
// verified. Hosts never link this package.
package diff
