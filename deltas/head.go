package deltas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

const (
	// Version is the container version that this code writes and reads.
	Version = 1
	// PrefixSize is how many bytes of a container HeadSize needs.
	PrefixSize = 12

	magic = "TWKDELT" // then one byte of version, then the head's length as uint32
)

// Limits on a segment. They bound what a host holds in memory for one.
const (
	MaxSegment    = 64 << 20 // bytes of target
	MaxLiteral    = 4 << 20  // bytes of target that are neither ZERO nor COPY
	MaxDifference = 4 << 20  // bytes that are added to the base's
	MaxOps        = 1 << 17  // instructions
	MaxPayload    = 6 << 20  // bytes of payload

	minSegmentRecord = 1 + 1 + 2*len(release.Digest{})
	// checkSize is the length of the head's last field, the SHA-256 of all before it. A
	// manifest has that digest too; this one tells damage where there is no manifest.
	checkSize = len(release.Digest{})
)

// Head describes a container: what it leads from and to, and its segments.
type Head struct {
	Base     Identity // the zero Identity for a full image
	Target   Identity
	Padding  int64 // zero bytes at the end of the target that its source did not have
	Segments []Segment
}

// Identity names an image as a verity tree does.
type Identity struct {
	Size int64 // bytes, of which verity.CheckSize approves
	Root release.Digest
	Salt release.Salt
}

// IsZero reports whether there is no image.
func (i Identity) IsZero() bool { return i.Size == 0 && i.Root.IsZero() && len(i.Salt) == 0 }

// PaddedSize returns the size of the image that a source of n bytes makes: rounded up
// with zero bytes to whole blocks, and to the two that a verity tree needs.
func PaddedSize(n int64) int64 {
	return max((n+verity.BlockSize-1)/verity.BlockSize*verity.BlockSize, verity.MinSize)
}

// HeadSize returns the length in bytes of the head that starts with prefix, which is
// the first PrefixSize bytes of a container.
func HeadSize(prefix []byte) (int64, error) {
	if len(prefix) < PrefixSize || string(prefix[:len(magic)]) != magic {
		return 0, errors.New("not a twinkeel container")
	}
	if v := prefix[len(magic)]; v != Version {
		return 0, fmt.Errorf("container version: got %d, want %d: another updater is needed", v, Version)
	}
	n := int64(binary.BigEndian.Uint32(prefix[len(magic)+1:]))
	if n <= PrefixSize || n > release.MaxHeadSize {
		return 0, fmt.Errorf("head size: got %d, want %d to %d", n, PrefixSize+1, release.MaxHeadSize)
	}
	return n, nil
}

// ParseHead reads a head, which is the whole of b. The bytes need not come from a
// friend; after ParseHead all offsets and lengths in the head are within the limits of
// this package and add up.
func ParseHead(b []byte) (*Head, error) {
	n, err := HeadSize(b)
	if err != nil {
		return nil, err
	}
	if n != int64(len(b)) {
		return nil, fmt.Errorf("head: got %d bytes, want %d", len(b), n)
	}
	body, sum := b[:max(len(b)-checkSize, PrefixSize)], b[max(len(b)-checkSize, PrefixSize):]
	if want := release.DigestOf(body); !bytes.Equal(sum, want[:]) {
		return nil, errors.New("head: is damaged: its digest differs")
	}
	r := cursor{b: body[PrefixSize:]}
	h := new(Head)
	if err := h.parse(&r, n); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if !bytes.Equal(h.encode(), b) {
		return nil, errors.New("head: not in canonical form")
	}
	return h, nil
}

func (h *Head) parse(r *cursor, headSize int64) error {
	switch hasBase := r.uvarint(1); hasBase {
	case 0:
	case 1:
		h.Base = r.identity()
	}
	h.Target = r.identity()
	h.Padding = r.int64(verity.MinSize)
	count := r.uvarint(math.MaxInt32)
	if r.err == nil && count > uint64(len(r.b)/minSegmentRecord) {
		return fmt.Errorf("%d segments do not fit into %d bytes", count, len(r.b))
	}
	if r.err != nil {
		return r.err
	}
	h.Segments = make([]Segment, count)
	var offset int64
	payload := headSize
	for i := range h.Segments {
		s := &h.Segments[i]
		s.Offset, s.PayloadOffset = offset, payload
		s.Length = r.blocks(MaxSegment)
		s.PayloadLength = r.int64(MaxPayload)
		s.Payload, s.Target = r.digest(), r.digest()
		offset += s.Length
		payload += s.PayloadLength
	}
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%d bytes behind the last segment", len(r.b))
	}
	return r.err
}

// Encode returns the canonical bytes of h, or why h is not a valid head. It takes
// offsets, of target and payloads, as given by the lengths before them.
func (h *Head) Encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("encode head: %w", err)
	}
	b := h.encode()
	if len(b) > release.MaxHeadSize {
		return nil, fmt.Errorf("encode head: got %d bytes, want at most %d", len(b), release.MaxHeadSize)
	}
	return b, nil
}

func (h *Head) encode() []byte {
	b := append([]byte(magic), Version, 0, 0, 0, 0)
	if h.Base.IsZero() {
		b = append(b, 0)
	} else {
		b = appendIdentity(append(b, 1), h.Base)
	}
	b = appendIdentity(b, h.Target)
	b = binary.AppendUvarint(b, uint64(h.Padding))
	b = binary.AppendUvarint(b, uint64(len(h.Segments)))
	for i := range h.Segments {
		s := &h.Segments[i]
		b = binary.AppendUvarint(b, uint64(s.Length/verity.BlockSize))
		b = binary.AppendUvarint(b, uint64(s.PayloadLength))
		b = append(b, s.Payload[:]...)
		b = append(b, s.Target[:]...)
	}
	binary.BigEndian.PutUint32(b[len(magic)+1:], uint32(len(b)+checkSize))
	sum := release.DigestOf(b)
	return append(b, sum[:]...)
}

func appendIdentity(b []byte, i Identity) []byte {
	b = binary.AppendUvarint(b, uint64(i.Size/verity.BlockSize))
	b = append(b, i.Root[:]...)
	b = binary.AppendUvarint(b, uint64(len(i.Salt)))
	return append(b, i.Salt...)
}

// check reports the first thing in h that no valid head says, offsets aside.
func (h *Head) check() error {
	if !h.Base.IsZero() {
		if err := h.Base.check(); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	}
	if err := h.Target.check(); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if h.Padding < 0 || h.Padding > h.Target.Size || PaddedSize(h.Target.Size-h.Padding) != h.Target.Size {
		return fmt.Errorf("padding: got %d bytes, which %d bytes do not need", h.Padding, h.Target.Size)
	}
	left := h.Target.Size
	for i := range h.Segments {
		s := &h.Segments[i]
		if err := s.check(left); err != nil {
			return fmt.Errorf("segment %d: %w", i, err)
		}
		left -= s.Length
	}
	if left != 0 {
		return fmt.Errorf("segments: %d of %d bytes are in no segment", left, h.Target.Size)
	}
	return nil
}

func (i Identity) check() error {
	if err := verity.CheckSize(i.Size); err != nil {
		return err
	}
	if i.Root.IsZero() {
		return errors.New("root is missing")
	}
	if len(i.Salt) > maxSalt {
		return fmt.Errorf("salt: got %d bytes, want at most %d", len(i.Salt), maxSalt)
	}
	return nil
}

// Size returns the length in bytes of the whole container: where its last payload ends.
func (h *Head) Size() int64 {
	s := h.Segments[len(h.Segments)-1]
	return s.PayloadOffset + s.PayloadLength
}

// Matches reports how h contradicts what a manifest says of the same container: that it
// makes img, and that it starts from the image whose root is from, or, if from is the
// zero digest, from nothing.
func (h *Head) Matches(img release.Image, from release.Digest) error {
	switch {
	case h.Base.Root != from:
		return fmt.Errorf("head: base: got %s, want %s", h.Base.Root, from)
	case h.Target.Size != img.Size:
		return fmt.Errorf("head: target size: got %d, want %d", h.Target.Size, img.Size)
	case h.Target.Root != img.Root:
		return fmt.Errorf("head: target root: got %s, want %s", h.Target.Root, img.Root)
	case !bytes.Equal(h.Target.Salt, img.Salt):
		return fmt.Errorf("head: target salt: got %x, want %x", []byte(h.Target.Salt), []byte(img.Salt))
	}
	return nil
}
