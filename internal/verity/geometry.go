package verity

import (
	"crypto/sha256"
	"fmt"

	"github.com/twinkeel/twinkeel/release"
)

const (
	// BlockSize is the size of a data block and of a hash block, in bytes.
	BlockSize = release.BlockSize
	// NodeSpan is how much data one leaf block covers, in bytes: 512 KiB.
	NodeSpan = fanOut * BlockSize
	// MinSize is the smallest image that has a tree, in bytes.
	MinSize = 2 * BlockSize

	digestSize = sha256.Size
	fanOut     = BlockSize / digestSize
)

// CheckSize refuses an image size that has no tree or is beyond release.MaxImageSize.
// Every other function of this package takes a size for which it returned nil.
func CheckSize(size int64) error {
	if size < MinSize || size > release.MaxImageSize || size%BlockSize != 0 {
		return fmt.Errorf("image size: got %d, want a multiple of %d from %d to %d", size, BlockSize, MinSize, int64(release.MaxImageSize))
	}
	return nil
}

// Spans returns how many spans an image of size bytes has; the last may be short.
func Spans(size int64) int { return int((size + NodeSpan - 1) / NodeSpan) }

// SpanLength returns the length in bytes of span i of an image of size bytes.
func SpanLength(size int64, i int) int { return int(min(NodeSpan, size-int64(i)*NodeSpan)) }

// TreeSize returns the length in bytes of the tree of an image of size bytes. A
// partition that holds the image with its tree has at least size + TreeSize(size).
func TreeSize(size int64) int64 { return (upperBlocks(size) + int64(Spans(size))) * BlockSize }

// LeafOffset returns where on the partition the leaf block of span i lies, in bytes from
// the start of the image.
func LeafOffset(size int64, i int) int64 {
	return size + (upperBlocks(size)+int64(i))*BlockSize
}

// upperBlocks counts the hash blocks above the leaves.
func upperBlocks(size int64) int64 {
	var sum int64
	for n := int64(Spans(size)); n > 1; {
		n = (n + fanOut - 1) / fanOut
		sum += n
	}
	return sum
}
