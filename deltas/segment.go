package deltas

import (
	"fmt"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

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

// check reports what is wrong with s if left bytes of the target are not yet covered.
func (s *Segment) check(left int64) error {
	switch {
	case s.Length <= 0 || s.Length > MaxSegment || s.Length > left:
		return fmt.Errorf("length: got %d, want 1 to %d", s.Length, min(MaxSegment, left))
	case s.Length != left && s.Length%verity.NodeSpan != 0:
		return fmt.Errorf("length: got %d, want a multiple of %d before the end", s.Length, verity.NodeSpan)
	case s.PayloadLength <= 0 || s.PayloadLength > MaxPayload:
		return fmt.Errorf("payload: got %d bytes, want 1 to %d", s.PayloadLength, MaxPayload)
	case s.Payload.IsZero() || s.Target.IsZero():
		return fmt.Errorf("a digest is missing")
	}
	return nil
}
