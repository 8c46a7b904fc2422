// Command bench measures the delta engine beside the tools that Debian has, on the same
// files in the same run:
//
//	make bench-delta                        every pair
//	make bench-delta PAIRS=esbuild,os12     some
//
// corpus.sh builds the files. Each tool makes a delta and, where it can, applies it; what
// comes out is compared byte for byte with what should, and a difference ends the run.
// Bytes, CPU seconds (user and system, of the process and its children) and the largest
// resident memory are what counts; wall time is left out, as machines are shared.
//
// What other tools did is kept in OUT/results.json by the digests of the files, so that
// a second run measures our own engine only. HDiffPatch is in no package registry:
// figures of it that were measured elsewhere lie in hdiffpatch.tsv, by the same digests,
// and are shown where those match.
//
// The tables are written to docs/bench-tables.md.
package main
