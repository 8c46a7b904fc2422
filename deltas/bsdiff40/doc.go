// Package bsdiff40 makes and applies patches in the BSDIFF40 format, so that twinkeel
// can exchange deltas with other tools: any bspatch applies what Create makes, and Apply
// takes what any bsdiff made.
//
// It is interchange only. The format holds no digest, wants both files in memory and is
// no part of how a host is updated.
//
// The work is done by gabstv/go-bsdiff, whose applier trusts its input. Here a patch is
// checked first: its header against what there is and what is allowed, its control
// stream for negative and overflowing lengths, for lengths that do not add up, for reads
// outside the old file, and for more steps than any bsdiff writes. What the library then
// still trips over becomes an error.
package bsdiff40
