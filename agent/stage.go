package agent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

const (
	// What an interruption costs again is less than a checkpoint's worth of payload and
	// one request: together no more than the largest segment, 4 MiB, and a little.
	fetchAtOnce       = 1 << 20  // payload bytes asked for in one request, at least one segment
	checkpointPayload = 1 << 20  // payload bytes after which a checkpoint is made
	checkpointTarget  = 16 << 20 // bytes of the slot after which one is made
)

// checkpoint says how far the slot was durably written. It only saves work: what it
// claims is read back before anything is armed.
type checkpoint struct {
	Txn   uint64         `json:"txn"`
	Image string         `json:"image"`
	Blob  release.Digest `json:"blob"`          // whose segments are counted; zero for a copy
	Root  release.Digest `json:"root,omitzero"` // of the image, where it is an application's
	Next  int            `json:"next"`          // the first segment that is not written
	Done  []string       `json:"done"`          // images that are written
}

// clear makes the idle slot unbootable before its first byte is written.
func (a *Agent) clear(ctx context.Context, m machine, t *Transaction) error {
	s, err := m.record.Clear(t.Slot)
	if err != nil {
		return &Refusal{Reason{CodeLoader, err.Error()}, err}
	}
	return a.store(ctx, s)
}

// stage writes the release into the idle slot, reads it back, and describes it to the
// boot loader. The slot is cleared. Interrupted at any point it goes on from its last
// checkpoint.
func (a *Agent) stage(ctx context.Context, m machine, t *Transaction) error {
	mf, err := a.st.manifest(t.To)
	if err != nil {
		return err
	}
	if err := a.preflight(m, t.Slot); err != nil {
		return err
	}
	plans, err := a.plan(m, t.Slot, mf)
	if err != nil {
		return err
	}
	if err := a.forget(t.Slot); err != nil {
		return err
	}
	var cp checkpoint
	if err := a.st.load(fileCheckpoint, &cp); err != nil || cp.Txn != t.Seq {
		cp = checkpoint{Txn: t.Seq}
	}
	for i := range plans {
		p := &plans[i]
		if cp.wrote(p.image.Name) {
			continue
		}
		if err := a.weigh(ctx, p, t); err != nil {
			return err
		}
		if err := a.stageImage(ctx, t, *p, &cp); err != nil {
			return fmt.Errorf("image %s into slot %s: %w", p.image.Name, t.Slot, err)
		}
		p.fill = nil // a map has megabytes
	}
	for _, p := range plans {
		if err := a.readBack(ctx, t, p); err != nil {
			return fmt.Errorf("image %s of slot %s: %w", p.image.Name, t.Slot, err)
		}
	}
	if err := a.stageReleaseApps(ctx, m, t); err != nil {
		return err
	}
	if err := a.describe(ctx, t.Slot, mf); err != nil {
		return err
	}
	t.VerifiedIn = m.boot.ID
	return a.save(t)
}

func (c *checkpoint) wrote(image string) bool {
	for _, d := range c.Done {
		if d == image {
			return true
		}
	}
	return false
}

// forget makes the slot's pointer say that it holds nothing, before that becomes true.
func (a *Agent) forget(slot partitions.Slot) error {
	p, err := a.st.pointer(slot)
	if err != nil || p.Current == 0 {
		return err
	}
	return a.st.save(pointerFile(slot), &Pointer{Previous: p.Current, ReadsFormat: p.ReadsFormat})
}

// stageImage brings one image into the slot by its route.
func (a *Agent) stageImage(ctx context.Context, t *Transaction, p imagePlan, cp *checkpoint) error {
	dev, err := p.place.write()
	if err != nil {
		return &Refusal{Reason{CodeSlot, err.Error()}, err}
	}
	defer dev.Close()
	var base partitions.OpenDevice
	if p.base > 0 {
		if base, err = p.place.read(); err != nil {
			return &Refusal{Reason{CodeSlot, err.Error()}, err}
		}
		defer base.Close()
	}
	j := &job{a: a, t: t, p: p, dev: dev, base: base, cp: cp}
	switch p.kind {
	case routeCopy:
		err = j.copy(ctx)
	case routeBlocks:
		err = j.fillImage(ctx)
	default:
		err = j.fetch(ctx)
	}
	if err != nil {
		return err
	}
	cp.Done = append(cp.Done, p.image.Name)
	cp.Image, cp.Next = "", 0
	if err := j.mark(); err != nil {
		return err
	}
	a.log.Info("image is written", "txn", t.Seq, "image", p.image.Name, "route", j.p.kind, "moved", t.Bytes)
	return nil
}

// mark makes a checkpoint: the image first, then what is said about it.
func (j *job) mark() error {
	if err := j.dev.Flush(); err != nil {
		return err
	}
	return j.p.place.save(j.cp)
}

// job is one image on its way into the slot.
type job struct {
	a    *Agent
	t    *Transaction
	p    imagePlan
	dev  partitions.Device
	base partitions.Device // nil: none
	cp   *checkpoint
	exec deltas.Executor
	bad  int // segments that did not become what they should be
}

// head fetches and checks the head of a container.
func (j *job) head(ctx context.Context, blob release.Blob, from release.Digest) (*deltas.Head, error) {
	b, err := j.get(ctx, blob, 0, blob.Head.Size)
	if err != nil {
		return nil, err
	}
	if got := release.DigestOf(b); got != blob.Head.SHA256 {
		return nil, &Refusal{Reason{CodeUntrusted, fmt.Sprintf("head of %s: sha256: got %s, want %s", blob.SHA256.Short(), got.Short(), blob.Head.SHA256.Short())}, nil}
	}
	h, err := deltas.ParseHead(b)
	if err == nil {
		err = h.Matches(j.p.image, from)
	}
	if err == nil && h.Size() != blob.Size {
		err = fmt.Errorf("size: got %d, want %d", h.Size(), blob.Size)
	}
	if err != nil {
		return nil, &Refusal{Reason{CodeUntrusted, fmt.Sprintf("head of %s: %v", blob.SHA256.Short(), err)}, err}
	}
	return h, nil
}

func (j *job) get(ctx context.Context, blob release.Blob, offset, n int64) ([]byte, error) {
	b, err := j.a.net.Get(ctx, release.BlobPath(blob.SHA256), offset, n)
	j.t.Bytes += int64(len(b))
	if err != nil {
		return nil, &Refusal{Reason{CodeUnavailable, fmt.Sprintf("fetch %s at %d: %v", blob.SHA256.Short(), offset, err)}, err}
	}
	return b, nil
}

// fetch streams a container into the slot, segment by segment. A segment that turns out
// wrong (a rotten base, a lying mirror) is left for the read-back to repair from the
// full image; a network that fails ends the work until it is taken up again.
func (j *job) fetch(ctx context.Context) error {
	h, err := j.head(ctx, j.p.blob, j.p.from)
	if err != nil && j.p.kind == routeDelta && ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
		// The delta is gone or is not what was signed: blocks, or the full image, serve any base.
		j.p.takeFull()
		if err := j.a.weigh(ctx, &j.p, j.t); err != nil {
			return err
		}
		j.a.log.Warn("the delta cannot be used", "image", j.p.image.Name, "instead", j.p.kind, "err", err)
		if j.p.kind == routeBlocks {
			return j.fillImage(ctx)
		}
		h, err = j.head(ctx, j.p.blob, j.p.from)
	}
	if err != nil {
		return err
	}
	if j.cp.Image != j.p.image.Name || j.cp.Blob != j.p.blob.SHA256 || j.cp.Next > len(h.Segments) {
		j.cp.Image, j.cp.Blob, j.cp.Next = j.p.image.Name, j.p.blob.SHA256, 0
	}
	var payloads, targets int64 // since the last checkpoint
	for i := j.cp.Next; i < len(h.Segments); {
		n, payload := batch(h.Segments[i:])
		b, err := j.get(ctx, j.p.blob, h.Segments[i].PayloadOffset, payload)
		if err != nil {
			return err
		}
		for k, s := range h.Segments[i : i+n] {
			base := j.base
			if j.p.kind != routeDelta {
				base = nil
			}
			if err := j.segment(ctx, s, cut(b, s, h.Segments[i].PayloadOffset), base, j.p.base); err != nil {
				return err
			}
			j.a.progress(Event{Step: "stage", Text: j.p.image.Name + " by " + j.p.kind, Done: s.Offset + s.Length, Total: j.p.image.Size})
			payloads, targets = payloads+s.PayloadLength, targets+s.Length
			if payloads >= checkpointPayload || targets >= checkpointTarget {
				j.cp.Next, payloads, targets = i+k+1, 0, 0
				if err := j.mark(); err != nil {
					return err
				}
			}
		}
		i += n
	}
	return nil
}

// batch returns how many segments from the first on are worth one request, and the
// bytes of their payloads, which lie back to back.
func batch(list []deltas.Segment) (n int, payload int64) {
	for _, s := range list {
		if n > 0 && payload+s.PayloadLength > fetchAtOnce {
			break
		}
		n++
		payload += s.PayloadLength
	}
	return n, payload
}

// cut returns a segment's payload out of a batch that begins at offset; it is short if
// the server delivered less.
func cut(b []byte, s deltas.Segment, offset int64) []byte {
	from := min(s.PayloadOffset-offset, int64(len(b)))
	return b[from:min(from+s.PayloadLength, int64(len(b)))]
}

// segment verifies one payload, has it decoded, and writes what it makes. A wrong
// segment is counted and is no error: only what nobody can repair is.
func (j *job) segment(ctx context.Context, s deltas.Segment, payload []byte, base partitions.Device, baseSize int64) error {
	if got := release.DigestOf(payload); got != s.Payload {
		j.wrong(s, fmt.Errorf("payload: sha256: got %s, want %s", got.Short(), s.Payload.Short()))
		return nil
	}
	var old io.ReaderAt
	if base != nil {
		old = base
	}
	plan, err := j.a.net.Decode(ctx, payload, s, old)
	if err != nil {
		if errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return &Refusal{Reason{CodeUnavailable, fmt.Sprintf("decode segment at %d: %v", s.Offset, err)}, err}
		}
		j.wrong(s, err)
		return nil
	}
	w := spanWriter{dev: j.dev, hashes: j.a.o.Hashes, image: j.p.image, offset: s.Offset}
	err = j.exec.Execute(plan, s, old, baseSize, &w)
	if cerr := plan.Close(); err == nil {
		err = cerr
	}
	switch {
	case w.err != nil:
		return w.err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrUnavailable):
		return &Refusal{Reason{CodeUnavailable, fmt.Sprintf("decode segment at %d: %v", s.Offset, err)}, err}
	case err != nil:
		j.wrong(s, err)
	case verity.SegmentDigest(w.nodes) != s.Target:
		j.wrong(s, errors.New("the bytes it makes are not the ones that were signed"))
	}
	return nil
}

func (j *job) wrong(s deltas.Segment, err error) {
	j.bad++
	j.a.log.Warn("segment is wrong, it will be repaired", "image", j.p.image.Name, "slot", j.t.Slot, "offset", s.Offset, "err", err)
}

// copy brings over an image that did not change, from the running slot.
func (j *job) copy(ctx context.Context) error {
	buf := partitions.AlignedBuffer(verity.NodeSpan)
	w := spanWriter{dev: j.dev, hashes: j.a.o.Hashes, image: j.p.image}
	for w.offset < j.p.image.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(verity.NodeSpan, j.p.image.Size-w.offset)]
		if err := readFull(j.base, b, w.offset); err != nil {
			j.a.log.Warn("the running slot cannot be read, the rest is repaired", "image", j.p.image.Name, "offset", w.offset, "err", err)
			clear(b)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		j.a.progress(Event{Step: "stage", Text: j.p.image.Name + " by copy", Done: w.offset, Total: j.p.image.Size})
	}
	return nil
}

// readFull reads len(b) bytes at offset.
func readFull(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
}

// spanWriter writes an image span by span, each with its leaf block of the hash tree,
// and collects the nodes.
type spanWriter struct {
	dev    partitions.Device
	hashes *verity.Hashes
	image  release.Image
	offset int64
	nodes  []release.Digest
	block  []byte // aligned, for leaf blocks
	err    error  // of the device
}

// Write takes exactly one span.
func (w *spanWriter) Write(b []byte) (int, error) {
	leaf, node := w.hashes.Span(w.image.Salt, b)
	w.nodes = append(w.nodes, node)
	if err := w.put(b, leaf); err != nil {
		return 0, err
	}
	return len(b), nil
}

// put writes one span and its leaf block of the tree.
func (w *spanWriter) put(b []byte, leaf [verity.BlockSize]byte) error {
	if _, err := w.dev.WriteAt(b, w.offset); err != nil {
		w.err = fmt.Errorf("write %d bytes at %d: %w", len(b), w.offset, err)
		return w.err
	}
	at := verity.LeafOffset(w.image.Size, int(w.offset/verity.NodeSpan))
	if w.block == nil {
		w.block = partitions.AlignedBuffer(verity.BlockSize)
	}
	copy(w.block, leaf[:])
	if _, err := w.dev.WriteAt(w.block, at); err != nil {
		w.err = fmt.Errorf("write hash block at %d: %w", at, err)
		return w.err
	}
	w.offset += int64(len(b))
	return nil
}
