// Package release holds the nouns that publisher and host share, as plain types.
//
// A release is described by one Manifest: the images of an operating system, the
// deltas that lead to them, and the applications that belong to it. The manifest is
// the single TUF target that a host has to trust; everything else (payloads, deltas,
// full images) is named in it by digest. A Directive chooses among releases and says
// how widely they are rolled out; it can never introduce bits of its own.
//
// Encodings are canonical: one value has exactly one byte string, and a byte string
// that is not canonical is refused. So what is signed and what is parsed cannot differ.
//
// The package imports nothing but the standard library, and nothing in it touches a
// disk, a network or a clock.
package release
