// Package signingtest makes small TUF repositories in memory, for tests of whatever
// trusts one.
//
// A Repo is a publisher that does as it is told: it signs any document, also one that
// no honest publisher would make, and serves it as a signing.Source. It does not use the
// metadata library that the client is built on, so the two do not share their mistakes:
// documents are plain maps, signatures are ed25519 over canonical JSON. All keys are
// derived from their names and secret from nobody.
//
// It is imported by tests only.
package signingtest
