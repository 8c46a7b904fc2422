// Package signing is the host side of trust: it decides which bytes a host may believe.
//
// A repository is signed with TUF (The Update Framework). A Client holds what a host
// knows of it: the newest root, timestamp, snapshot and targets metadata, and the
// delegated roles that were asked for, each as the exact bytes that were served. Refresh
// brings that up to date over a Source, which may be a network or a bundle and is never
// believed; Target then returns the verified bytes of one small file, such as a release
// manifest or a rollout directive. Large payloads are no targets: the manifest names them
// by digest.
//
// The promise: whatever a Source, a power cut or a damaged file does, a Client never
// accepts less than it accepted before, never panics, never waits longer than it was told
// to, and either recovers by itself at the next Refresh or says loudly why it does not.
// Expiry and a wrong clock only ever keep new things out; what is committed stays
// readable through Cached.
//
// Three kinds of files make up the state (docs/format-trust.md):
//   - one file for each role, replaced durably as soon as that role verifies; a damaged
//     one counts as absent and is fetched again;
//   - floor.0 and floor.1, checksummed copies written in turn and always before the
//     metadata that they cover, so that losing the role files loses no protection
//     against rollback;
//   - a bounded cache of verified targets.
//
// go-tuf supplies the metadata types and the verification core. Its updater, fetcher and
// cache are not used: they do not survive a power cut, have no deadlines, and forget the
// highest version seen when the cache is lost.
//
// The package imports no network, no signer and no clock, and keeps no package state:
// time, directory and Source are handed in. One process owns the directory at a time;
// its caller holds the lock.
package signing
