// Package deltas defines the container that images travel in, and carries out its
// instructions on a host.
//
// A container is a Head and, behind it, the payloads of its segments. A delta is a
// container with a base: its segments say what to copy from the old image and what is
// new. A full image is a container without one. Hosts treat both alike, and may mix
// them: any segment of a full image repairs the same range after a delta failed.
//
// The nouns: the base is the image that a delta starts from, the target is the image
// that it makes. A segment is a range of the target with the payload that makes it. Its
// plan is what the payload decodes to: ZERO, COPY from the base, or DATA. A payload also
// knows DIFF, bytes of the base that changed a little, whose references package predict
// follows first; in a plan it is DATA.
//
// # Order of trust
//
// The signed manifest holds the digest of the head; the head holds the digest of every
// payload; so a payload is verified before any decoder sees it. The plan, and what it
// makes, is believed by nobody: Execute only bounds it (exactly the segment's length, no
// read outside the base), and the caller compares the verity nodes of the bytes it got
// with Segment.Target. A plan may therefore come from a process without privileges.
//
// This package holds no decompressor: payloads become plans in deltas/decode, and
// containers are made in deltas/diff. It opens no file and knows no clock.
//
// # Format, version 0
//
// docs/format-delta.md describes every byte. Version 0 carries no promise: a later
// version of twinkeel may refuse it. Encodings are canonical: what ParseHead accepts,
// Encode writes back byte for byte.
package deltas
