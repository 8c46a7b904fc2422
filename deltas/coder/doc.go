// Package coder codes the streams of a delta: an adaptive binary range coder whose models
// know what deltas are made of.
//
// Nouns: a stream is bytes of one [Kind]; its code is what [Encode] makes of it. A context
// is something known of the bytes before, a state what has followed a context so far.
//
// How it works. A byte is coded as eight decisions, each with a probability of its own. A
// range coder turns decisions into bytes and spends -log2(p) bits on what had probability
// p; so all that matters is to predict well. Each decision is predicted from several
// contexts at a time (the bytes before, the row above in a table, the field of an
// instruction, what followed the last time the same bytes were seen) and a mixer adds
// the predictions as logarithms of odds, with weights that follow what was right. Encoder
// and decoder learn the same from the same bytes, so nothing but the decisions is sent.
// One piece of code serves both directions: the two cannot differ.
//
// The kinds: Literals (and Modes) look at the last one to six bytes, at tables by the length of
// rows that fits best of late, and at repeats; a byte in a long repeat costs a single
// decision. Control knows the numbers of a stream of varints by their lengths and first
// bytes. Difference is mostly zero: a first decision says whether a byte is zero, and from
// 24 zeros on the length of the rest of the run is coded as a number, at no cost per byte.
//
// The promises. Arithmetic is on integers of fixed width, tables are computed from
// integers: every machine makes and reads the same bytes. Decode allocates its result and
// less than 8 MiB, takes time linear in the length of the result, and neither panics nor
// returns more than was asked for, whatever it is given. It is no check: damage inside a
// code can make wrong bytes without an error, so codes are read only after their digest was
// verified.
//
// The format is frozen by the vectors of testdata/coder: any change to a model, a table or a
// rate makes another format.
//
// The package imports nothing but the standard library's errors, fmt and math/bits.
package coder
