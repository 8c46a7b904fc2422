// Package histories tries to refute the agent: it lives through random histories of a
// machine.
//
// A History is a list of Turns, drawn from one seed. In each turn something happens to
// the machine of package sim (a release is published, an operator does something, a bit
// rots, the clock jumps), and then the real agent runs as a daemon, while the power may
// go, the process may be killed, a call may fail and the network misbehaves. At the end
// the faults stop, and the machine has to arrive where it should. Live runs a history;
// Shrink looks for the shortest one that breaks the same law. The exhaustive part, every
// fault of a few stories and every subset of what was not flushed, is tests of package
// agent.
//
// Repositories are made once and shared by all histories, and so is what was worked out of
// them: verdicts over signatures, what files were parsed to, hashes of images, the plans that
// payloads were decoded to.
// Nothing here has any logic of a transaction. It is imported by tests, and by the command
// that writes docs/PROOF.md.
package histories
