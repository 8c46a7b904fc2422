package agent

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// repairRounds is how often a slot is repaired before the medium is given up.
const repairRounds = 2

// scan is what one image on a device turned out to be.
type scan struct {
	root  release.Digest
	nodes []release.Digest // one for each span; zero where the device could not be read
	wrong []verity.Block   // blocks of the hash tree that lie on the device otherwise
	err   error            // the first read error
}

// scanImage reads an image past the page cache and computes its hash tree.
func (a *Agent) scanImage(ctx context.Context, dev partitions.Device, img DeployedImage, step string) (scan, error) {
	var s scan
	buf := partitions.AlignedBuffer(int(min(verity.NodeSpan, img.Size)))
	block := partitions.AlignedBuffer(verity.BlockSize)
	tree := verity.NewBuilder(img.Size, img.Salt)
	for i := range verity.Spans(img.Size) {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		at := int64(i) * verity.NodeSpan
		b := buf[:verity.SpanLength(img.Size, i)]
		var node release.Digest
		if err := readFull(dev, b, at); err != nil {
			s.fault(err)
		} else {
			leaf, n := a.o.Hashes.Span(img.Salt, b)
			node = n
			s.compare(dev, block, verity.LeafOffset(img.Size, i), leaf[:])
		}
		tree.Add(node)
		s.nodes = append(s.nodes, node)
		a.progress(Event{Step: step, Text: "reading " + img.Name + " back", Done: at + int64(len(b)), Total: img.Size})
	}
	root, upper, err := tree.Finish()
	if err != nil {
		return s, err
	}
	s.root = root
	for i := range upper {
		s.compare(dev, block, upper[i].Offset, upper[i].Data[:])
	}
	return s, nil
}

func (s *scan) fault(err error) {
	if s.err == nil {
		s.err = err
	}
}

// compare notes a block of the hash tree that does not lie on the device as it should.
func (s *scan) compare(dev partitions.Device, buf []byte, offset int64, want []byte) {
	err := readFull(dev, buf, offset)
	if err != nil {
		s.fault(err)
	}
	if err != nil || !bytes.Equal(buf, want) {
		b := verity.Block{Offset: offset}
		copy(b.Data[:], want)
		s.wrong = append(s.wrong, b)
	}
}

// readBack compares what was staged with what was signed, past the page cache. What is
// wrong is fetched again; the hash tree is completed.
func (a *Agent) readBack(ctx context.Context, t *Transaction, p imagePlan) error {
	dev, err := p.place.write()
	if err != nil {
		return &Refusal{Reason{CodeSlot, err.Error()}, err}
	}
	defer dev.Close()
	// Bytes that a process wrote and died before it flushed may be read here and yet be
	// lost to a power cut.
	if err := dev.Flush(); err != nil {
		return err
	}
	img := DeployedImage{p.image.Name, p.image.Size, p.image.Root, p.image.Salt}
	for round := 0; ; round++ {
		s, err := a.scanImage(ctx, dev, img, "verify")
		if err != nil {
			return err
		}
		if s.root == img.Root && len(s.wrong) == 0 {
			return nil
		}
		if round == repairRounds {
			return &Refusal{Reason{CodeSlot, fmt.Sprintf("verity root after %d repairs: got %s, want %s", round, s.root.Short(), img.Root.Short())}, s.err}
		}
		if s.root == img.Root {
			// The data is right: its tree is completed, and no more than that is read again.
			return writeBlocks(dev, s.wrong)
		}
		j := &job{a: a, t: t, p: p, dev: dev}
		if err := j.repair(ctx, s.nodes, round == 0); err != nil {
			return err
		}
		if err := dev.Flush(); err != nil {
			return err
		}
	}
}

// writeBlocks writes blocks of the hash tree and reads them back.
func writeBlocks(dev partitions.Device, blocks []verity.Block) error {
	buf := partitions.AlignedBuffer(verity.BlockSize)
	for _, b := range blocks {
		copy(buf, b.Data[:])
		if _, err := dev.WriteAt(buf, b.Offset); err != nil {
			return fmt.Errorf("write hash block at %d: %w", b.Offset, err)
		}
	}
	if err := dev.Flush(); err != nil {
		return err
	}
	for _, b := range blocks {
		if err := readFull(dev, buf, b.Offset); err != nil {
			return err
		}
		if !bytes.Equal(buf, b.Data[:]) {
			return &Refusal{Reason{CodeSlot, fmt.Sprintf("hash block at %d does not read back as it was written", b.Offset)}, nil}
		}
	}
	return nil
}

// describe tells the loader what the slot holds; it is cleared.
func (a *Agent) describe(ctx context.Context, slot partitions.Slot, mf *release.Manifest) error {
	d := bootloader.Description{Version: mf.Version, Images: map[string]release.Digest{}}
	for _, i := range mf.Images {
		d.Images[i.Name] = i.Root
		if i.Name == "root" {
			d.Root, d.Salt, d.HashOffset = i.Root, i.Salt, i.Size
		}
	}
	if err := a.o.Loader.Describe(ctx, slot, d); err != nil {
		return &Refusal{Reason{CodeLoader, fmt.Sprintf("describe slot %s: %v", slot, err)}, err}
	}
	return nil
}

// verifySlot reads every image of a slot back and compares it with a deployment.
func (a *Agent) verifySlot(ctx context.Context, slot partitions.Slot, d *Deployment) ([]VerifyReport, error) {
	var reports []VerifyReport
	for _, img := range d.Images {
		r := VerifyReport{Slot: slot.String(), Image: img.Name, Want: img.Root}
		if err := a.verifyImage(ctx, slot, img, &r); err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func (a *Agent) verifyImage(ctx context.Context, slot partitions.Slot, img DeployedImage, r *VerifyReport) error {
	dev, err := a.o.Slots.OpenRead(slot, img.Name)
	if err != nil {
		r.Text, r.unread = err.Error(), true
		return nil
	}
	defer dev.Close()
	if need := img.Size + verity.TreeSize(img.Size); dev.Size() < need {
		r.Text = fmt.Sprintf("partition has %d bytes, want %d", dev.Size(), need)
		return nil
	}
	s, err := a.scanImage(ctx, dev, img, "verify")
	if err != nil {
		return err
	}
	r.Got, r.OK = s.root, s.root == img.Root && len(s.wrong) == 0
	switch {
	case s.err != nil:
		r.Text, r.unread = s.err.Error(), true
	case s.root != img.Root:
		r.Text = "the content is not the one that was signed"
	case len(s.wrong) > 0:
		r.Text = fmt.Sprintf("the content is right, but %d blocks of its hash tree are not", len(s.wrong))
	}
	return nil
}

// allOK reports whether a slot is proven: a deployment of which no image is known proves
// nothing.
func allOK(reports []VerifyReport) bool {
	if len(reports) == 0 {
		return false
	}
	for _, r := range reports {
		if !r.OK {
			return false
		}
	}
	return true
}

// verifyStaged reads a slot back in this boot, which is not the one that wrote it.
func (a *Agent) verifyStaged(ctx context.Context, m machine, t *Transaction) error {
	d, err := a.st.deployment(t.To)
	if err != nil {
		return err
	}
	if d == nil {
		return a.finish(t, HistoryEntry{Result: "abandoned", Code: CodeState, Text: "the deployment is not known"})
	}
	reports, err := a.verifySlot(ctx, t.Slot, d)
	if err != nil {
		return err
	}
	if allOK(reports) {
		t.VerifiedIn = m.boot.ID
		return a.save(t)
	}
	text := fmt.Sprintf("slot %s: %s", t.Slot, firstFault(reports))
	if t.Kind == KindRollback {
		if err := a.finish(t, HistoryEntry{Result: "abandoned", Code: CodeSlot, Text: text}); err != nil {
			return err
		}
		return &Refusal{Reason{CodeSlot, text}, nil}
	}
	a.log.Warn("the staged slot is not what it was, staging it again", "slot", t.Slot, "text", text)
	t.Phase, t.VerifiedIn = Staging, ""
	return a.save(t)
}

func firstFault(reports []VerifyReport) string {
	for _, r := range reports {
		if !r.OK {
			return "image " + r.Image + ": " + r.Text
		}
	}
	return "nothing is known of its images"
}
