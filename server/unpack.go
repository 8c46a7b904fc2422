package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/release"
)

// Release is a release of a site, for those who make disks of it.
type Release struct {
	Manifest *release.Manifest
	Encoded  []byte // the manifest as it is signed
	Root     []byte // the repository's first root, which a host starts its trust from

	site *Site
}

// Release returns a release of a channel. The zero version stands for the one that the
// channel offers, or the newest; compatible may be "" if the version is for one machine.
func (s *Site) Release(channel, compatible string, version release.Version) (*Release, error) {
	set, err := s.metadata()
	if err != nil {
		return nil, err
	}
	b := &bundle{site: s, in: ExportOptions{Channel: channel, Compatible: compatible, Version: version}}
	if err := b.choose(set); err != nil {
		return nil, err
	}
	if len(b.releases) > 1 {
		return nil, fmt.Errorf("release %s of %s: is for %d machines: name one of them", b.r.Version, channel, len(b.releases))
	}
	r := &Release{site: s}
	if r.Encoded, err = s.content(b.releases[0].Target); err != nil {
		return nil, err
	}
	if r.Manifest, err = release.DecodeManifest(r.Encoded); err != nil {
		return nil, err
	}
	if r.Root, err = readFile(s.repo("metadata/1.root.json"), release.MaxManifestSize); err != nil {
		return nil, fmt.Errorf("first root: %w", err)
	}
	return r, nil
}

// Unpack writes an image of the release to dst, verified; see decode.Apply for dst.
func (r *Release) Unpack(ctx context.Context, name string, dst io.Writer) error {
	for _, i := range r.Manifest.Images {
		if i.Name == name {
			_, err := r.site.unpackTo(ctx, i, dst)
			return err
		}
	}
	return fmt.Errorf("unpack %s: the release has no such image", name)
}

// unpackedName is the file of the one old image that is unpacked at a time.
const unpackedName = "old-image.tmp"

// unpack rebuilds an old image from its full container and verifies it.
func (s *Site) unpack(ctx context.Context, old release.Image) (*image, error) {
	out, err := s.stage(unpackedName)
	if err != nil {
		return nil, err
	}
	size, err := s.unpackTo(ctx, old, out)
	if err != nil {
		out.discard()
		return nil, err
	}
	if err := out.Close(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	img, err := os.Open(s.staging(unpackedName))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	return &image{name: old.Name, file: img, size: size, salt: old.Salt}, nil
}

// unpackTo writes an image to dst and returns its size without padding.
func (s *Site) unpackTo(ctx context.Context, old release.Image, dst io.Writer) (size int64, err error) {
	f, err := s.openBlob(ctx, old.Full)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	container := decode.Container{Reader: f, Size: old.Full.Size}
	head, err := container.Head()
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	if err := head.Matches(old, release.Digest{}); err != nil {
		return 0, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	err = decode.Apply(ctx, container, nil, dst, decode.Options{
		Progress: func(done, total int64) { s.opt.Progress("unpack "+old.Name, done, total) },
	})
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", old.Name, err)
	}
	return head.Target.Size - head.Padding, nil
}

func (s *Site) discardImage(i *image) {
	i.file.Close()
	// What cannot be removed now, the next run removes.
	_ = s.medium.Remove(s.staging(unpackedName))
}
