// Command proof runs what tries to refute the project and writes what came of it to
// docs/PROOF.md: random histories, every cut of a few stories, planted bugs, and crash states of
// real file systems. The histories may take many sittings of one binary (-progress).
// It fails if anything was refuted.
package main
