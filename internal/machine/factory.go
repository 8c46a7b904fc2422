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
	dst, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return root, fmt.Errorf("factory: %w", err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		return root, errors.Join(fmt.Errorf("write %s to %s: %w", image, to, err), dst.Close())
	}
	if root, err = verity.WriteTree(dst, 0, info.Size(), salt); err != nil {
		return root, errors.Join(fmt.Errorf("write the tree of %s to %s: %w", image, to, err), dst.Close())
	}
	return root, errors.Join(dst.Sync(), dst.Close())
}
