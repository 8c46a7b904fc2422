// Package mutants plants bugs in production code and has the simulator find them.
//
// A Mutant is a small replacement of text in one file. All of them are applied at once
// to copies that only the go command's -overlay sees, each behind a switch, so that one
// compilation serves them all and nothing of them is in the tree that is built and
// shipped. A mutant whose text is not there any more is an error: the table follows the
// code. See docs/adr/0016.
package mutants
