// Command proof runs what tries to refute the project and writes what came of it to
// docs/PROOF.md: random histories, every cut of a few stories, planted bugs, and crash states of
// real file systems. With -live it goes on with a longer campaign of random histories, which
// takes many sittings, and whose progress is a file beside the page. It fails if anything was refuted.
package main
