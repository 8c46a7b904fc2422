// Package blocks describes a block map: what a host needs to fetch only those blocks of
// an image that it does not have, whatever image it has.
//
// A block map blob is a head and frames. The head lists, for every 4 KiB block of the
// image, the first bytes of its hash in the image's verity tree, and for every frame (a
// few adjacent blocks, compressed together) the digest of its payload. A host compares
// the hashes with those in the verity tree of the image that it runs, copies what it
// finds there, and fetches the frames of the rest by range. Map is the head, and
// Comparison is what came of comparing it with another image.
//
// A hash is cut to six bytes, which saves 3 MB for an image of 464 MB. Nothing rests on
// it: two blocks taken for one make an image whose root is not the signed one, and the
// read-back repairs that. A frame's digest is cut to sixteen bytes, and it is what keeps
// unverified bytes from a decoder: who wants to slip in other bytes must find a second
// preimage of 128 bits.
//
// Frames are payloads of deltas, without a base, so the decoder knows nothing of this
// package. A salt that two images do not share makes all blocks look new: publishers
// salt an image by what it is for, not by release.
//
// Source of the format: docs/format-repository.md, "Block map". The package imports
// deltas, release and internal/verity, never a decompressor.
package blocks
