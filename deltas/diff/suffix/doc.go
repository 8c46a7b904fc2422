// Package suffix sorts the suffixes of bytes and finds the longest match of others in
// them.
//
// The sort is SA-IS (Nong, Zhang and Chan, "Two Efficient Algorithms for Linear Time
// Suffix Array Construction", 2009): linear time whatever the bytes, and 4 bytes of
// memory for each byte sorted plus an eighth. It knows no files and no images.
//
// An Index holds every other suffix only, which halves both: with the text, 4 bytes for
// each of its bytes.
package suffix
