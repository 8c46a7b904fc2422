// Command proof runs what tries to refute the project and writes what came of it to
// docs/PROOF.md: random histories, planted bugs, and crash states of real file systems.
// It fails if anything was refuted.
package main
