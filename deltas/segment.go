package deltas

import "github.com/twinkeel/twinkeel/release"

// Segment is one independently verified part of a container: a range of the target
// and the payload that makes it. Segments lie front to back, in both, without gaps.
type Segment struct {
	Offset        int64          // of the target, bytes; a multiple of verity.NodeSpan
	Length        int64          // of the target, bytes; a multiple of verity.NodeSpan but for the last
	PayloadOffset int64          // of the container, bytes
	PayloadLength int64          // bytes
	Payload       release.Digest // SHA-256 of the payload
	Target        release.Digest // SHA-256 over the verity nodes of the target range
}
