package agent

import (
	"context"
	"errors"
	"io/fs"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// repair makes those segments of the full image right whose nodes are not as signed: by
// blocks if that is cheaper and byBlocks says that it was not tried yet, or else from the
// full image.
func (j *job) repair(ctx context.Context, nodes []release.Digest, byBlocks bool) error {
	full := j.p.image.Full
	h, err := j.head(ctx, full, release.Digest{})
	if err != nil {
		return err
	}
	var wrong []deltas.Segment
	var price int64
	for _, s := range h.Segments {
		first, end := spansOf(s)
		if verity.SegmentDigest(nodes[first:end]) != s.Target {
			wrong = append(wrong, s)
			price += s.PayloadLength
		}
	}
	if byBlocks && j.p.image.Blocks != (release.Blob{}) && j.p.image.Blocks.Head.Size < price {
		if done, err := j.repairByBlocks(ctx, wrong, price); done || err != nil {
			return err
		}
	}
	for _, s := range wrong {
		j.a.log.Warn("repairing a segment from the full image", "image", j.p.image.Name, "slot", j.t.Slot, "offset", s.Offset, "length", s.Length)
		b, err := j.get(ctx, full, s.PayloadOffset, s.PayloadLength)
		if err != nil {
			return err
		}
		if err := j.segment(ctx, s, b, nil, 0); err != nil {
			return err
		}
		j.a.progress(Event{Step: "repair", Text: j.p.image.Name, Done: s.Offset + s.Length, Total: j.p.image.Size})
	}
	return nil
}

// spansOf returns the spans of a segment of a full image.
func spansOf(s deltas.Segment) (first, end int) {
	return int(s.Offset / verity.NodeSpan), int((s.Offset + s.Length + verity.NodeSpan - 1) / verity.NodeSpan)
}

// repairByBlocks mends the wrong segments, whose payloads in the full image have price
// bytes, block by block: what is right stays, what the running slot has is copied. It
// reports whether it did; whether that was enough, the next read-back says.
func (j *job) repairByBlocks(ctx context.Context, wrong []deltas.Segment, price int64) (bool, error) {
	base, reason := j.p.place.baseOf(j.p.image)
	if reason != "" {
		base = DeployedImage{}
	}
	f, err := j.a.survey(ctx, &j.p, base, j.t)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		j.a.log.Warn("the block map cannot be used", "image", j.p.image.Name, "err", err)
		return false, nil
	}
	f.keepAllBut(j.dev, j.p.image, wrong)
	size, _ := f.comparison.Download()
	if size >= price {
		return false, nil
	}
	if base.Size > 0 {
		dev, err := j.p.place.read()
		if err != nil {
			return false, &Refusal{Reason{CodeSlot, err.Error()}, err}
		}
		defer dev.Close()
		j.base = dev
	}
	j.a.log.Warn("repairing blocks", "image", j.p.image.Name, "slot", j.t.Slot, "segments", len(wrong), "bytes", size)
	w := spanWriter{dev: j.dev, hashes: j.a.o.Hashes, image: j.p.image}
	for _, s := range wrong {
		for first, end := spansOf(s); first < end; first++ {
			err := j.fillSpan(ctx, f, &w, first)
			if ctx.Err() == nil && (errors.Is(err, errBlocks) || errors.Is(err, fs.ErrNotExist)) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
		}
		j.a.progress(Event{Step: "repair", Text: j.p.image.Name, Done: s.Offset + s.Length, Total: j.p.image.Size})
	}
	return true, nil
}

// keepAllBut marks what dev holds already: everything outside of the wrong segments, and
// in them the blocks that have the right hash.
func (f *filling) keepAllBut(dev partitions.Device, img release.Image, wrong []deltas.Segment) {
	buf := partitions.AlignedBuffer(verity.NodeSpan)
	next := 0 // of wrong
	for i := range verity.Spans(img.Size) {
		at := int64(i) * verity.NodeSpan
		for next < len(wrong) && wrong[next].Offset+wrong[next].Length <= at {
			next++
		}
		b := buf[:verity.SpanLength(img.Size, i)]
		first := i * verity.NodeSpan / verity.BlockSize
		if next == len(wrong) || at < wrong[next].Offset {
			for k := range len(b) / verity.BlockSize {
				f.comparison.Keep(first + k)
			}
			continue
		}
		if readFull(dev, b, at) != nil {
			continue
		}
		leaf, _ := verity.HashSpan(img.Salt, b)
		for k := range len(b) / verity.BlockSize {
			if f.blocks.Is(first+k, leaf[k*len(release.Digest{}):]) {
				f.comparison.Keep(first + k)
			}
		}
	}
}
