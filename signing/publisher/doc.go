// Package publisher is the signing side of trust: it keeps keys, signs metadata and
// carries changes that need several people from one to the next.
//
// The nouns: a PrivateKey signs and is kept in an encrypted PEM file that cosign can
// read too; a Ring finds the keys that are present by their id; a Set is the metadata of
// one repository, verified when it is opened, changed in memory and sealed into files; a
// Proposal is a change on its way to enough signatures, in one portable file.
//
// Promises. A Set that opens was signed by the roles that its root names, from the first
// root on, so nobody's forgery is ever signed again. Seal returns files in the order in
// which they may be written: only the last one, timestamp.json, replaces another, and a
// repository that got any part of the others still verifies as what it was before.
// Nothing is ever sealed that the roles above do not accept. What a proposal changes is
// worked out from its documents each time it is shown; no stored text is believed.
//
// Only ed25519 and ECDSA P-256 keys exist here. The package never decides what a release
// is or when one goes out; it does not know of HTTP, images or deltas, and no host links it.
package publisher
