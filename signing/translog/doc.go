// Package translog is the release log: an append-only list of every release that was
// ever offered, whose every prefix a host can check.
//
// The nouns: an Entry is one release in one channel; a Policy says which log counts and
// what a host does about it, and stands in signed metadata; a Checkpoint is a signed
// statement of how long the log is and what its Merkle tree's root is; a View reads the
// log as a checkpoint describes it, by tiles.
//
// The promise: what a View confirms is in the tree whose root the checkpoint states,
// whatever the Source returns, and after Extends, everything that an older checkpoint
// committed to is still there at its place. So a release that was made for one victim has
// to appear in the log that everybody sees, or the victim notices. What a log cannot do
// is keep such a release from being signed: somebody has to read it (`twinkeel-server log
// monitor`).
//
// Files and formats are those of C2SP's tlog-tiles and tlog-checkpoint: static, plain,
// any web server's. Format: docs/format-log.md.
//
// The package never decides whether a release may be installed, keeps nothing and knows
// no file system; it does not import signing, which uses it.
package translog
