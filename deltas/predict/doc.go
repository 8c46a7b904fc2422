// Package predict guesses what the references in old bytes became, before a difference
// is added to them.
//
// When a program grows by an instruction, everything behind it moves, and every
// reference across that place changes, though nobody changed it. The guess comes from
// the moves that a segment's own instructions say (old bytes from here are new bytes
// there), and from the references that came before: what one field turned out to point
// at tells where its neighbours point, and what one row of a table changed by, the next
// may too.
//
// The nouns: a mode is a way to read bytes as fields; a field is 4 bytes, or an
// instruction, that look like a reference; its key is the place it points at, in the old
// image; the shift is how far that place moved. A mode is chosen for each block of the
// target by whoever makes the delta, by trying. A wrong guess costs bytes of difference
// and never correctness, as both sides guess alike: each field is known to both before
// the next is guessed, and all of it is integer code without choices of the machine's.
//
// It never imports a coder or an image: it is told bytes and where they lie. The modes
// are part of the container's format: docs/format-delta.md.
package predict
