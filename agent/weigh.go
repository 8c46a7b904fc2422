package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// priced is what it takes to fetch the blocks that one image has and another lacks.
type priced struct {
	blocks   release.Digest // of the block map
	base     release.Digest // verity root
	bytes    int64
	requests int
}

// weigh adds to a plan the route by blocks and chooses it if it is cheaper. The price is
// known from the image's block map, which is fetched for it, unless the map alone costs
// more than the route chosen so far. t, which may be nil, counts the bytes; without it
// the price is enough, and is remembered. What is wrong with the map makes the route
// impossible and is no error; that there is no network is.
func (a *Agent) weigh(ctx context.Context, p *imagePlan, t *Transaction) error {
	img := p.image
	if img.Blocks == (release.Blob{}) || p.kind == routeCopy {
		return nil
	}
	add := func(size int64, format string, args ...any) {
		p.all = append(p.all, Route{Image: img.Name, Kind: routeBlocks, Download: size, Text: fmt.Sprintf(format, args...)})
	}
	if img.Blocks.Head.Size >= p.bytes {
		add(img.Blocks.Head.Size, "the block map alone; the rest is not worth asking for")
		return nil
	}
	base, reason := p.place.baseOf(img)
	if reason != "" {
		add(img.Blocks.Size, "%s", reason)
		return nil
	}
	known := slices.IndexFunc(a.prices, func(k priced) bool { return k.blocks == img.Blocks.SHA256 && k.base == base.Root })
	if t == nil && known >= 0 {
		p.takeBlocks(a.prices[known], base, nil)
		return nil
	}
	f, err := a.survey(ctx, p, base, t)
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, ErrUnavailable)):
		return &Refusal{Reason{CodeUnavailable, fmt.Sprintf("image %s: %v", img.Name, err)}, err}
	case err != nil:
		a.log.Warn("the block map cannot be used", "image", img.Name, "err", err)
		add(img.Blocks.Size, "the block map cannot be used: %v", err)
		return nil
	}
	size, requests := f.comparison.Download()
	price := priced{img.Blocks.SHA256, base.Root, img.Blocks.Head.Size + size, requests}
	if known < 0 {
		a.prices = append(a.prices[max(0, len(a.prices)-release.MaxImages):], price)
	}
	p.takeBlocks(price, base, f)
	return nil
}

// takeBlocks adds the route by blocks at its price, and chooses it if it is the cheapest.
func (p *imagePlan) takeBlocks(price priced, base DeployedImage, f *filling) {
	p.all = append(p.all, Route{Image: p.image.Name, Kind: routeBlocks, Download: price.bytes,
		Text: fmt.Sprintf("what %s lacks, in %d requests", base.Root.Short(), price.requests)})
	if price.bytes >= p.bytes {
		return
	}
	p.choose(routeBlocks)
	p.blob, p.bytes, p.from, p.base, p.fill = p.image.Blocks, price.bytes, base.Root, base.Size, f
}

// baseOf returns the image whose blocks may be in img, or why there is none.
func (p *place) baseOf(img release.Image) (DeployedImage, string) {
	if p.none == "" && !bytes.Equal(p.base.Salt, img.Salt) {
		return DeployedImage{}, "the image that runs has another salt, so no block of it can be told"
	}
	return p.base, p.none
}

// survey fetches an image's block map and compares it with what the tree of the running
// image says of that one's blocks.
func (a *Agent) survey(ctx context.Context, p *imagePlan, base DeployedImage, t *Transaction) (*filling, error) {
	img := p.image
	blob := img.Blocks
	b, err := a.net.Get(ctx, release.BlobPath(blob.SHA256), 0, blob.Head.Size)
	if t != nil {
		t.Bytes += int64(len(b))
	}
	if err != nil {
		return nil, fmt.Errorf("fetch block map %s: %w", blob.SHA256.Short(), err)
	}
	if got := release.DigestOf(b); got != blob.Head.SHA256 {
		return nil, fmt.Errorf("block map %s: sha256: got %s, want %s", blob.SHA256.Short(), got.Short(), blob.Head.SHA256.Short())
	}
	bm, err := blocks.Parse(b)
	if err == nil {
		err = bm.Matches(img, blob)
	}
	if err != nil {
		return nil, err
	}
	f := &filling{blocks: bm, comparison: bm.Compare()}
	if base.Size == 0 {
		return f, nil
	}
	dev, err := p.place.read()
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	// Leaves that cannot be read, or are wrong, make blocks look new or are found out when
	// the blocks are copied.
	if err := compareLeaves(dev, base.Size, f.comparison); err != nil {
		a.log.Warn("the running slot's hash tree cannot be read", "image", img.Name, "err", err)
	}
	return f, nil
}

// compareLeaves tells c which blocks the image of size bytes on dev has, by the leaves of
// its hash tree, which lie together.
func compareLeaves(dev partitions.Device, size int64, c *blocks.Comparison) error {
	const atOnce = 256 << 10
	buf := partitions.AlignedBuffer(atOnce)
	first := verity.LeafOffset(size, 0)
	end := size + verity.TreeSize(size)
	left := int(size / verity.BlockSize)
	block := 0
	for at := first; at < end; {
		b := buf[:min(atOnce, end-at)]
		if err := readFull(dev, b, at); err != nil {
			return err
		}
		at += int64(len(b))
		n := min(left, len(b)/len(release.Digest{}))
		c.AddBase(block, b[:n*len(release.Digest{})])
		block, left = block+n, left-n
	}
	return nil
}
