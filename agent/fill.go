package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// maxWrongFrames is how many frames may be wrong before a server's block map is given up
// for the full image, which is fetched in larger pieces.
const maxWrongFrames = 16

// errBlocks means that the block map's frames are not to be had as they were signed.
var errBlocks = errors.New("blocks cannot be fetched")

// filling makes spans of an image of blocks: some are there already, some are in the
// running slot, the rest is fetched in frames.
type filling struct {
	blocks     *blocks.Map
	comparison *blocks.Comparison

	buf     []byte // the span being made, aligned
	frame   []byte // the frame being decoded
	batch   []byte // payloads of frames, as fetched
	batched int64  // where batch begins in the blob
	wrong   int    // frames that were not what they should be
}

// fillImage stages an image by blocks, and by the full image if the server has no blocks
// to give or gives wrong ones.
func (j *job) fillImage(ctx context.Context) error {
	err := j.fill(ctx)
	if !errors.Is(err, errBlocks) && !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		return err
	}
	j.a.log.Warn("blocks cannot be used, taking the full image", "image", j.p.image.Name, "err", err)
	j.p.takeFull()
	return j.fetch(ctx)
}

// takeFull makes the full image the route, which serves any base.
func (p *imagePlan) takeFull() {
	p.choose(routeFull)
	p.blob, p.bytes, p.from, p.base, p.fill = p.image.Full, p.image.Full.Size, release.Digest{}, 0, nil
}

func (j *job) fill(ctx context.Context) error {
	spans := verity.Spans(j.p.image.Size)
	if j.cp.Image != j.p.image.Name || j.cp.Blob != j.p.blob.SHA256 || j.cp.Next > spans {
		j.cp.Image, j.cp.Blob, j.cp.Next = j.p.image.Name, j.p.blob.SHA256, 0
	}
	w := spanWriter{dev: j.dev, hashes: j.a.o.Hashes, image: j.p.image}
	var targets int64 // since the last checkpoint
	fetched := j.t.Bytes
	for i := j.cp.Next; i < spans; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := j.fillSpan(ctx, j.p.fill, &w, i); err != nil {
			return err
		}
		j.a.progress(Event{Step: "stage", Text: j.p.image.Name + " by " + j.p.kind, Done: w.offset, Total: j.p.image.Size})
		if targets += verity.NodeSpan; targets >= checkpointTarget || j.t.Bytes-fetched >= checkpointPayload {
			j.cp.Next, targets, fetched = i+1, 0, j.t.Bytes
			if err := j.mark(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillSpan makes and writes span i. A block of the running slot that is not what its tree
// said is fetched instead; a frame that is wrong leaves the span for the read-back.
func (j *job) fillSpan(ctx context.Context, f *filling, w *spanWriter, i int) error {
	if f.buf == nil {
		f.buf = partitions.AlignedBuffer(verity.NodeSpan)
	}
	b := f.buf[:verity.SpanLength(j.p.image.Size, i)]
	first := i * verity.NodeSpan / verity.BlockSize
	count := len(b) / verity.BlockSize
	w.offset = int64(i) * verity.NodeSpan
	if f.keeps(first, count) {
		return nil
	}
	f.gather(j.dev, j.base, b, first)
	for again := false; ; again = true {
		if err := j.frames(ctx, f, b, first); err != nil {
			return err
		}
		leaf, _ := j.a.o.Hashes.Span(j.p.image.Salt, b)
		if bad := f.judge(first, count, leaf[:], !again); bad == 0 || again {
			if bad > 0 {
				j.a.log.Warn("blocks are wrong, they will be repaired", "image", j.p.image.Name, "slot", j.t.Slot, "offset", w.offset, "blocks", bad)
			}
			return w.put(b, leaf)
		}
	}
}

// keeps reports whether all these blocks are in their place already.
func (f *filling) keeps(first, count int) bool {
	for k := range count {
		if f.comparison.From(first+k) != blocks.Kept {
			return false
		}
	}
	return true
}

// gather fills b, whose first block is first, with what need not be fetched. What cannot
// be read is lacking.
func (f *filling) gather(dev, base partitions.Device, b []byte, first int) {
	c := f.comparison
	count := len(b) / verity.BlockSize
	for k := 0; k < count; {
		from, n := c.From(first+k), 1
		for k+n < count && (from >= 0 && c.From(first+k+n) == from+n || from < 0 && c.From(first+k+n) == from) {
			n++
		}
		out := b[k*verity.BlockSize:][:n*verity.BlockSize]
		var err error
		switch {
		case from == blocks.Kept:
			err = readFull(dev, out, int64(first+k)*verity.BlockSize)
		case from >= 0 && base == nil:
			err = fs.ErrClosed
		case from >= 0:
			err = readFull(base, out, int64(from)*verity.BlockSize)
		default:
			clear(out)
		}
		for i := 0; err != nil && i < n; i++ {
			c.Lack(first + k + i)
		}
		k += n
	}
}

// judge counts the blocks whose hashes are not as they should be. If mark, those and no
// others are to be fetched.
func (f *filling) judge(first, count int, leaf []byte, mark bool) (bad int) {
	for k := range count {
		good := f.blocks.Is(first+k, leaf[k*len(release.Digest{}):])
		if !good {
			bad++
		}
		switch {
		case mark && good:
			f.comparison.Keep(first + k)
		case mark:
			f.comparison.Lack(first + k)
		}
	}
	return bad
}

// frames fetches and decodes into b, whose first block is first, the frames that have
// blocks that are lacking.
func (j *job) frames(ctx context.Context, f *filling, b []byte, first int) error {
	last := first + len(b)/verity.BlockSize - 1
	for i := f.blocks.FrameOf(first); i <= f.blocks.FrameOf(last); i++ {
		if !f.comparison.Needed(i) {
			continue
		}
		payload, err := j.payload(ctx, f, i)
		if err != nil {
			return err
		}
		s, err := f.blocks.Segment(i, payload)
		if err == nil {
			err = j.decodeFrame(ctx, f, payload, s, b[s.Offset-int64(first)*verity.BlockSize:][:s.Length])
		}
		if r := new(Refusal); errors.As(err, &r) || ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err != nil {
			j.wrong(deltas.Segment{Offset: f.blocks.Frame(i).Offset}, err)
			if f.wrong++; f.wrong > maxWrongFrames {
				return fmt.Errorf("%w: %d frames were wrong, the last one: %w", errBlocks, f.wrong, err)
			}
		}
	}
	return nil
}

// payload returns the payload of a frame that is needed, and fetches with it those that
// follow closely.
func (j *job) payload(ctx context.Context, f *filling, i int) ([]byte, error) {
	at := f.blocks.Frame(i)
	if at.PayloadOffset < f.batched || at.PayloadOffset+at.PayloadLength > f.batched+int64(len(f.batch)) {
		last := f.blocks.Frame(f.comparison.Batch(i) - 1)
		b, err := j.get(ctx, j.p.image.Blocks, at.PayloadOffset, last.PayloadOffset+last.PayloadLength-at.PayloadOffset)
		if err != nil {
			return nil, err
		}
		f.batch, f.batched = b, at.PayloadOffset
	}
	return f.batch[:min(at.PayloadOffset+at.PayloadLength-f.batched, int64(len(f.batch)))][at.PayloadOffset-f.batched:], nil
}

// decodeFrame decodes a payload that was verified into out. An error that is no Refusal
// says that the frame is wrong.
func (j *job) decodeFrame(ctx context.Context, f *filling, payload []byte, s deltas.Segment, out []byte) error {
	plan, err := j.a.net.Decode(ctx, payload, s, nil)
	var made bytes.Buffer
	if err == nil {
		made = *bytes.NewBuffer(f.frame[:0])
		err = j.exec.Execute(plan, s, nil, 0, &made)
		if cerr := plan.Close(); err == nil {
			err = cerr
		}
		f.frame = made.Bytes()
	}
	if errors.Is(err, ErrUnavailable) {
		return &Refusal{Reason{CodeUnavailable, fmt.Sprintf("decode frame at %d: %v", s.Offset, err)}, err}
	}
	if err != nil {
		return err
	}
	copy(out, made.Bytes())
	return nil
}
