package verity

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/release"
)

// HashSpan hashes one span of data: at most NodeSpan bytes, less only for the last span
// of an image. It returns the span's leaf block as it lies on disk, and the node, which
// is the hash of that block. It panics on a length that is not whole blocks.
func HashSpan(salt release.Salt, data []byte) (leaf [BlockSize]byte, node release.Digest) {
	if len(data) == 0 || len(data) > NodeSpan || len(data)%BlockSize != 0 {
		panic(fmt.Sprintf("verity: internal error: span of %d bytes", len(data)))
	}
	h := sha256.New()
	for at := leaf[:0]; len(data) > 0; data = data[BlockSize:] {
		h.Reset()
		h.Write(salt)
		h.Write(data[:BlockSize])
		at = h.Sum(at)
	}
	return leaf, hashBlock(salt, &leaf)
}

func hashBlock(salt release.Salt, block *[BlockSize]byte) (d release.Digest) {
	h := sha256.New()
	h.Write(salt)
	h.Write(block[:])
	h.Sum(d[:0])
	return d
}

// SegmentDigest is what a container says of a segment's target: SHA-256 over the nodes
// of its spans, in order.
func SegmentDigest(nodes []release.Digest) (d release.Digest) {
	h := sha256.New()
	for i := range nodes {
		h.Write(nodes[i][:])
	}
	h.Sum(d[:0])
	return d
}

// Block is one hash block and where on the partition it lies, in bytes from the start
// of the image.
type Block struct {
	Offset int64
	Data   [BlockSize]byte
}

// Builder makes the upper part of an image's tree from the nodes of its spans.
type Builder struct {
	size  int64
	salt  release.Salt
	nodes []release.Digest
}

// NewBuilder returns a Builder for an image of size bytes, which CheckSize accepts.
func NewBuilder(size int64, salt release.Salt) *Builder {
	return &Builder{size: size, salt: salt, nodes: make([]release.Digest, 0, Spans(size))}
}

// Add takes the node of the next span.
func (b *Builder) Add(node release.Digest) { b.nodes = append(b.nodes, node) }

// Finish returns the root, and the hash blocks above the leaves in the order in which
// they lie on disk; there are none for an image of a single span. The error says that
// Add was not called once for each span.
func (b *Builder) Finish() (root release.Digest, upper []Block, err error) {
	if got, want := len(b.nodes), Spans(b.size); got != want {
		return root, nil, fmt.Errorf("verity tree of %d bytes: got %d nodes, want %d", b.size, got, want)
	}
	level := b.nodes
	end := LeafOffset(b.size, 0) // of the level being made
	for len(level) > 1 {
		blocks := make([]Block, (len(level)+fanOut-1)/fanOut)
		above := make([]release.Digest, len(blocks))
		for i := range blocks {
			blocks[i].Offset = end - int64(len(blocks)-i)*BlockSize
			for j, d := range level[i*fanOut : min((i+1)*fanOut, len(level))] {
				copy(blocks[i].Data[j*digestSize:], d[:])
			}
			above[i] = hashBlock(b.salt, &blocks[i].Data)
		}
		upper = append(blocks, upper...)
		end -= int64(len(blocks)) * BlockSize
		level = above
	}
	return level[0], upper, nil
}

// File is where an image and its tree lie.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// WriteTree reads the image of size bytes that begins at off, writes its tree behind it,
// and returns the root.
func WriteTree(f File, off, size int64, salt release.Salt) (release.Digest, error) {
	if err := CheckSize(size); err != nil {
		return release.Digest{}, err
	}
	b := NewBuilder(size, salt)
	buf := make([]byte, min(NodeSpan, size))
	for i := range Spans(size) {
		span, at := buf[:SpanLength(size, i)], off+int64(i)*NodeSpan
		if n, err := f.ReadAt(span, at); n < len(span) {
			return release.Digest{}, fmt.Errorf("read image at %d: %w", at+int64(n)-off, err)
		}
		leaf, node := HashSpan(salt, span)
		b.Add(node)
		if _, err := f.WriteAt(leaf[:], off+LeafOffset(size, i)); err != nil {
			return release.Digest{}, fmt.Errorf("write hash tree: %w", err)
		}
	}
	root, upper, err := b.Finish()
	if err != nil {
		return root, err
	}
	for _, block := range upper {
		if _, err := f.WriteAt(block.Data[:], off+block.Offset); err != nil {
			return root, fmt.Errorf("write hash tree: %w", err)
		}
	}
	return root, nil
}

// Root reads an image of size bytes from r, one span at a time, and returns its root.
func Root(r io.ReaderAt, size int64, salt release.Salt) (release.Digest, error) {
	if err := CheckSize(size); err != nil {
		return release.Digest{}, err
	}
	b := NewBuilder(size, salt)
	buf := make([]byte, min(NodeSpan, size))
	for i := range Spans(size) {
		span := buf[:SpanLength(size, i)]
		if n, err := r.ReadAt(span, int64(i)*NodeSpan); n < len(span) {
			return release.Digest{}, fmt.Errorf("read image at %d: %w", int64(i)*NodeSpan+int64(n), err)
		}
		_, node := HashSpan(salt, span)
		b.Add(node)
	}
	root, _, err := b.Finish()
	return root, err
}
