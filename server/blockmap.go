package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/deltas/blocks/build"
	"github.com/twinkeel/twinkeel/release"
)

// BlocksFrom is the size in bytes from which images get a block map if nothing else is
// asked for. Below it the full image is hardly more than the map and the requests.
const BlocksFrom = 16 << 20

// makeBlocks makes the block map of image i, if it is to have one.
func (p *publication) makeBlocks(ctx context.Context, i int) error {
	from := p.in.BlocksFrom
	if from == 0 {
		from = BlocksFrom
	}
	img := p.images[i]
	if from < 0 || img.size < from {
		return nil
	}
	blob, err := p.site.blockMap(ctx, img, identity(p.m.Images[i]))
	if errors.Is(err, build.ErrTooLarge) {
		p.note("image %s: %v", img.name, err)
		return nil
	}
	p.m.Images[i].Blocks = blob
	return err
}

// blocksName is the note on the block map of an image.
func blocksName(of deltas.Identity) string {
	key := fmt.Sprintf("blocks %d\x00%d %s %x", blocks.Version, of.Size, of.Root, []byte(of.Salt))
	d := sha256.Sum256([]byte(key))
	return hex.EncodeToString(d[:]) + ".json"
}

// blockMap makes the block map of an image, verifies it by decoding every frame, and puts
// it into the repository, where nothing refers to it yet.
func (s *Site) blockMap(ctx context.Context, img *image, of deltas.Identity) (blob release.Blob, err error) {
	step := "blocks " + img.name
	if blob, ok := s.recallNote(blocksName(of)); ok {
		if err := s.verifyBlocks(ctx, blob, step); err == nil {
			return blob, nil
		}
		s.opt.Log.Warn("a finished block map does not verify and is made again", "blob", blob.SHA256)
		if err := s.removeBlob(blob); err != nil {
			return blob, err
		}
	}
	out, err := s.stage("container.tmp")
	if err != nil {
		return blob, err
	}
	defer out.discard()
	scratch, err := s.stage("payloads.tmp")
	if err != nil {
		return blob, err
	}
	defer scratch.discard()
	blob, err = build.Create(ctx, img.source(), out, build.Options{
		Spool:    scratch,
		Progress: func(done, total int64) { s.opt.Progress(step, done, total) },
	})
	if err != nil {
		return blob, fmt.Errorf("make %s: %w", step, err)
	}
	m, err := readMap(out, blob)
	if err != nil {
		return blob, fmt.Errorf("verify %s: %w", step, err)
	}
	if !sameIdentity(m.Target(), of) {
		return blob, fmt.Errorf("make %s: the image changed while it was read", step)
	}
	if err := build.Verify(ctx, out, blob, func(done, total int64) { s.opt.Progress("verify "+step, done, total) }); err != nil {
		return blob, fmt.Errorf("verify %s: %w", step, err)
	}
	if err := out.place(release.BlobPath(blob.SHA256)); err != nil {
		return blob, err
	}
	return blob, s.rememberNote(blocksName(of), blob)
}

func (s *Site) verifyBlocks(ctx context.Context, blob release.Blob, step string) error {
	f, err := s.openBlob(ctx, blob)
	if err != nil {
		return err
	}
	defer f.Close()
	return build.Verify(ctx, f, blob, func(done, total int64) { s.opt.Progress("verify "+step, done, total) })
}

// readMap reads the head of a block map.
func readMap(r io.ReaderAt, blob release.Blob) (*blocks.Map, error) {
	head := make([]byte, blob.Head.Size)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("block map: %w", err)
	}
	return blocks.Parse(head)
}

// openMap reads the head of a block map that is in the repository.
func (s *Site) openMap(blob release.Blob) (*blocks.Map, error) {
	f, err := os.Open(s.repo(release.BlobPath(blob.SHA256)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readMap(f, blob)
}

// blocksPrice is what a host that has the image old downloads by blocks for now, or 0 if
// that cannot be told: both need a block map.
func (s *Site) blocksPrice(old, now release.Image) int64 {
	if old.Blocks == (release.Blob{}) || now.Blocks == (release.Blob{}) {
		return 0
	}
	from, err := s.openMap(old.Blocks)
	if err != nil {
		return 0
	}
	to, err := s.openMap(now.Blocks)
	if err != nil {
		return 0
	}
	c := to.Compare()
	c.AddMap(from)
	size, _ := c.Download()
	return now.Blocks.Head.Size + size
}
