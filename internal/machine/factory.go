package machine

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// WriteImage writes the file image and its verity tree to the front of the partition or
// file to, as a factory does, and returns the tree's root.
func WriteImage(to, image string, salt release.Salt) (root release.Digest, err error) {
	src, err := os.Open(image)
	if err != nil {
		return root, fmt.Errorf("factory image: %w", err)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return root, fmt.Errorf("factory image: %w", err)
	}
	if err := verity.CheckSize(info.Size()); err != nil {
		return root, fmt.Errorf("factory image %s: %w", image, err)
	}
	dst, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return root, fmt.Errorf("factory: %w", err)
	}
	if root, err = copyWithTree(dst, src, info.Size(), salt); err != nil {
		return root, errors.Join(fmt.Errorf("write %s to %s: %w", image, to, err), dst.Close())
	}
	return root, errors.Join(dst.Sync(), dst.Close())
}

func copyWithTree(dst io.WriterAt, src io.ReaderAt, size int64, salt release.Salt) (root release.Digest, err error) {
	tree := verity.NewBuilder(size, salt)
	buf := make([]byte, verity.NodeSpan)
	for i := range verity.Spans(size) {
		span := buf[:verity.SpanLength(size, i)]
		at := int64(i) * verity.NodeSpan
		if _, err := src.ReadAt(span, at); err != nil {
			return root, err
		}
		leaf, node := verity.HashSpan(salt, span)
		tree.Add(node)
		if _, err := dst.WriteAt(span, at); err != nil {
			return root, err
		}
		if _, err := dst.WriteAt(leaf[:], verity.LeafOffset(size, i)); err != nil {
			return root, err
		}
	}
	root, upper, err := tree.Finish()
	if err != nil {
		return root, err
	}
	for _, b := range upper {
		if _, err := dst.WriteAt(b.Data[:], b.Offset); err != nil {
			return root, err
		}
	}
	return root, nil
}
