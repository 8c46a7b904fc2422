package blocks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

const (
	// Version is the version of the format that this code writes and reads.
	Version = 1
	// MaxFrame is how many blocks a frame may have.
	MaxFrame = 64

	magic      = "TWKBLKS" // then one byte of version, then the head's length as uint32
	prefixSize = len(magic) + 1 + 4
	idSize     = 6  // of a block's hash
	digestSize = 16 // of a frame's digest
	checkSize  = len(release.Digest{})
	maxSalt    = 32
)

// Map is the head of a block map.
type Map struct {
	target  deltas.Identity
	frame   int     // blocks of a frame; the last may have fewer
	ids     []byte  // idSize for each block
	digests []byte  // digestSize for each frame
	ends    []int64 // where each frame's payload ends in the blob
	start   int64   // where the first begins: the head's length
}

// Frame says where a frame lies. All are bytes.
type Frame struct {
	Offset        int64 // of the image
	Length        int64 // of the image
	PayloadOffset int64 // of the blob
	PayloadLength int64
}

// FrameBlocks returns how many blocks a frame of an image of size bytes has, so that the
// head stays within release.MaxHeadSize; 0 means that no head would.
func FrameBlocks(size int64) int {
	for n := 2; n <= MaxFrame; n *= 2 {
		blocks := size / verity.BlockSize
		// A length takes three bytes at most: a frame is little longer than its blocks.
		if 256+blocks*idSize+(blocks/int64(n)+1)*(digestSize+3) <= release.MaxHeadSize {
			return n
		}
	}
	return 0
}

// New returns the map of an image, from the hashes of its blocks (32 bytes each) and
// the payloads' lengths and digests.
func New(target deltas.Identity, frame int, hashes []byte, lengths []int64, digests []release.Digest) (*Map, error) {
	m := &Map{target: target, frame: frame}
	for ; len(hashes) >= checkSize; hashes = hashes[checkSize:] {
		m.ids = append(m.ids, hashes[:idSize]...)
	}
	for i := range digests {
		m.digests = append(m.digests, digests[i][:digestSize]...)
	}
	var at int64
	for _, n := range lengths {
		at += n
		m.ends = append(m.ends, at)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("block map: %w", err)
	}
	m.shift(int64(len(m.encode())))
	if m.start > release.MaxHeadSize {
		return nil, fmt.Errorf("block map: head: got %d bytes, want at most %d", m.start, release.MaxHeadSize)
	}
	return m, nil
}

// shift moves the payloads behind a head of start bytes.
func (m *Map) shift(start int64) {
	for i := range m.ends {
		m.ends[i] += start - m.start
	}
	m.start = start
}

// Parse reads a map, which is the whole of b and which keeps b. The bytes need not come
// from a friend; after Parse all lengths are within limits and add up.
func Parse(b []byte) (*Map, error) {
	if len(b) > release.MaxHeadSize || len(b) < prefixSize+checkSize || string(b[:len(magic)]) != magic {
		return nil, errors.New("block map: not a block map, or truncated")
	}
	if v := b[len(magic)]; v != Version {
		return nil, fmt.Errorf("block map: version: got %d, want %d", v, Version)
	}
	if n := binary.BigEndian.Uint32(b[len(magic)+1:]); int64(n) != int64(len(b)) {
		return nil, fmt.Errorf("block map: head: got %d bytes, want %d", len(b), n)
	}
	body, sum := b[:len(b)-checkSize], b[len(b)-checkSize:]
	if want := release.DigestOf(body); !bytes.Equal(sum, want[:]) {
		return nil, errors.New("block map: is damaged: its digest differs")
	}
	m := new(Map)
	if err := m.parse(body[prefixSize:]); err != nil {
		return nil, fmt.Errorf("block map: %w", err)
	}
	m.shift(int64(len(b)))
	if !bytes.Equal(m.encode(), b) {
		return nil, errors.New("block map: not in canonical form")
	}
	return m, nil
}

func (m *Map) parse(b []byte) error {
	r := reader{b: b}
	m.target.Size = int64(r.uvarint(release.MaxImageSize/verity.BlockSize)) * verity.BlockSize
	copy(m.target.Root[:], r.bytes(len(m.target.Root)))
	if n := int(r.uvarint(maxSalt)); n > 0 {
		m.target.Salt = bytes.Clone(r.bytes(n))
	}
	m.frame = int(r.uvarint(MaxFrame))
	if r.err != nil {
		return r.err
	}
	if err := m.checkShape(); err != nil {
		return err
	}
	m.ids = r.bytes(m.Blocks() * idSize)
	m.digests = r.bytes(m.Frames() * digestSize)
	if r.err != nil {
		return r.err
	}
	m.ends = make([]int64, m.Frames()) // no more than the digests, which are there
	var at int64
	for i := range m.ends {
		at += int64(r.uvarint(deltas.MaxPayload))
		m.ends[i] = at
	}
	if r.err != nil {
		return r.err
	}
	if len(r.b) > 0 {
		return fmt.Errorf("%d bytes behind the last length", len(r.b))
	}
	return m.check()
}

func (m *Map) checkShape() error {
	if err := verity.CheckSize(m.target.Size); err != nil {
		return err
	}
	if m.target.Root.IsZero() {
		return errors.New("root is missing")
	}
	if m.frame < 1 || m.frame > MaxFrame {
		return fmt.Errorf("frame: got %d blocks, want 1 to %d", m.frame, MaxFrame)
	}
	return nil
}

func (m *Map) check() error {
	if err := m.checkShape(); err != nil {
		return err
	}
	if len(m.target.Salt) > maxSalt {
		return fmt.Errorf("salt: got %d bytes, want at most %d", len(m.target.Salt), maxSalt)
	}
	if got := len(m.ids) / idSize; got != m.Blocks() {
		return fmt.Errorf("got %d hashes, want %d", got, m.Blocks())
	}
	if a, b := len(m.digests)/digestSize, len(m.ends); a != m.Frames() || b != m.Frames() {
		return fmt.Errorf("got %d digests and %d lengths, want %d", a, b, m.Frames())
	}
	at := m.start
	for i, end := range m.ends {
		if n := end - at; n < 1 || n > deltas.MaxPayload {
			return fmt.Errorf("frame %d: payload: got %d bytes, want 1 to %d", i, n, deltas.MaxPayload)
		}
		at = end
	}
	return nil
}

// Encode returns the canonical bytes of m.
func (m *Map) Encode() []byte { return m.encode() }

func (m *Map) encode() []byte {
	b := make([]byte, 0, 256+len(m.ids)+len(m.digests)+3*len(m.ends))
	b = append(append(b, magic...), Version, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(m.target.Size/verity.BlockSize))
	b = append(b, m.target.Root[:]...)
	b = binary.AppendUvarint(b, uint64(len(m.target.Salt)))
	b = append(b, m.target.Salt...)
	b = binary.AppendUvarint(b, uint64(m.frame))
	b = append(append(b, m.ids...), m.digests...)
	at := m.start
	for _, end := range m.ends {
		b = binary.AppendUvarint(b, uint64(end-at))
		at = end
	}
	binary.BigEndian.PutUint32(b[len(magic)+1:], uint32(len(b)+checkSize))
	sum := release.DigestOf(b)
	return append(b, sum[:]...)
}

// Matches reports how m contradicts what a manifest says of the image and the blob.
func (m *Map) Matches(img release.Image, blob release.Blob) error {
	switch {
	case m.target.Size != img.Size:
		return fmt.Errorf("block map: size: got %d, want %d", m.target.Size, img.Size)
	case m.target.Root != img.Root:
		return fmt.Errorf("block map: root: got %s, want %s", m.target.Root, img.Root)
	case !bytes.Equal(m.target.Salt, img.Salt):
		return fmt.Errorf("block map: salt: got %x, want %x", []byte(m.target.Salt), []byte(img.Salt))
	case m.Size() != blob.Size:
		return fmt.Errorf("block map: blob: got %d bytes, want %d", m.Size(), blob.Size)
	}
	return nil
}

// Target is the image that the map is of.
func (m *Map) Target() deltas.Identity { return m.target }

// Blocks is how many blocks the image has.
func (m *Map) Blocks() int { return int(m.target.Size / verity.BlockSize) }

// Frames is how many frames the image has.
func (m *Map) Frames() int { return (m.Blocks() + m.frame - 1) / m.frame }

// FrameOf returns the frame that a block lies in.
func (m *Map) FrameOf(block int) int { return block / m.frame }

// Size is the length of the whole blob in bytes.
func (m *Map) Size() int64 { return m.ends[len(m.ends)-1] }

// Frame returns where frame i lies.
func (m *Map) Frame(i int) Frame {
	at := m.start
	if i > 0 {
		at = m.ends[i-1]
	}
	offset := int64(i) * int64(m.frame) * verity.BlockSize
	return Frame{
		Offset: offset, Length: min(int64(m.frame)*verity.BlockSize, m.target.Size-offset),
		PayloadOffset: at, PayloadLength: m.ends[i] - at,
	}
}

// Is reports whether a block's hash in the verity tree begins as the map says.
func (m *Map) Is(block int, hash []byte) bool { return bytes.Equal(m.id(block), hash[:idSize]) }

func (m *Map) id(block int) []byte { return m.ids[block*idSize:][:idSize] }

// Segment verifies the payload of frame i, and returns what a decoder has to be told of
// it. Its Target is zero: whoever decodes compares the blocks.
func (m *Map) Segment(i int, payload []byte) (deltas.Segment, error) {
	f := m.Frame(i)
	if int64(len(payload)) != f.PayloadLength {
		return deltas.Segment{}, fmt.Errorf("frame at %d: payload: got %d bytes, want %d", f.Offset, len(payload), f.PayloadLength)
	}
	d := release.DigestOf(payload)
	if want := m.digests[i*digestSize:][:digestSize]; !bytes.Equal(d[:digestSize], want) {
		return deltas.Segment{}, fmt.Errorf("frame at %d: payload: sha256: got %s, want %x…", f.Offset, d, want)
	}
	return deltas.Segment{
		Offset: f.Offset, Length: f.Length, PayloadOffset: f.PayloadOffset, PayloadLength: f.PayloadLength, Payload: d,
	}, nil
}

// reader reads fields; after the first error it returns zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint(limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit {
		r.err = fmt.Errorf("number: truncated, or above %d", limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = errors.New("truncated")
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}
