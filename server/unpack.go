package server

import (
	"context"
	"fmt"
	"os"

	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/release"
)

// unpackedName is the file of the one old image that is unpacked at a time.
const unpackedName = "old-image.tmp"

// unpack rebuilds an old image from its full container and verifies it.
func (s *Site) unpack(ctx context.Context, old release.Image) (*image, error) {
	f, err := s.openBlob(ctx, old.Full)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	container := decode.Container{Reader: f, Size: old.Full.Size}
	head, err := container.Head()
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	if err := head.Matches(old, release.Digest{}); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	out, err := s.stage(unpackedName)
	if err != nil {
		return nil, err
	}
	err = decode.Apply(ctx, container, nil, out, decode.Options{
		Progress: func(done, total int64) { s.opt.Progress("unpack "+old.Name, done, total) },
	})
	if err != nil {
		out.discard()
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	if err := out.Close(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	img, err := os.Open(s.staging(unpackedName))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	return &image{name: old.Name, file: img, size: head.Target.Size - head.Padding, salt: old.Salt}, nil
}

func (s *Site) discardImage(i *image) {
	i.file.Close()
	// What cannot be removed now, the next run removes.
	_ = s.medium.Remove(s.staging(unpackedName))
}
