// Package server is the publisher's repository: it turns images into releases, signs
// them, decides who gets them, and keeps the directory that hosts read.
//
// The nouns: a Site is one directory with keys, settings and the repository; the
// repository is what is served, static files only; a channel offers releases; a directive
// says which of them a fleet shall run and how widely.
//
// Promises. At any time the repository is complete and verifies: every file is written
// beside its place, synced, renamed and its directory synced; all files are new but one,
// timestamp.json, whose replacement is the moment of publication. A run that dies at any
// point leaves the repository as it was, and running it again picks up the payloads that
// are finished. Every payload is applied and compared with the signed roots before
// anything is signed, and every publication is first judged by the client that hosts run.
// Two runs on one site exclude each other.
//
// A site directory:
//
//	site.json     profile and lifetimes
//	keys/         NAME.pub and NAME.pem; encrypted, but for the online keys
//	repository/   metadata/, targets/, blobs/sha256/: what is served
//	staging/      unfinished files, and notes on finished payloads (made/)
//	ledger.json   since when files have not been referred to
//	history.jsonl what was done, one line each
//
// Old images, which new deltas start from, are unpacked from the repository's own full
// containers when they are needed. A second copy of each image would cost more than the
// payloads themselves, and could differ from what hosts have; the container cannot.
//
// The package imports no host code but signing, as its own judge.
package server
