package main

import (
	"fmt"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/bsdiff40"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/release"
)

// inspection is what delta inspect says; its JSON form is relied on by scripts.
type inspection struct {
	Format   string          `json:"format"` // twinkeel or bsdiff40
	Size     int64           `json:"size"`   // of the delta, bytes
	Head     *release.Head   `json:"head,omitempty"`
	Base     *inspectedImage `json:"base,omitempty"` // not there for a full image
	Target   inspectedImage  `json:"target"`
	Padding  int64           `json:"padding"` // of target.size
	Ratio    float64         `json:"ratio"`   // delta bytes for one byte of target
	Total    inspectedBytes  `json:"total"`
	Segments []inspectedPart `json:"segments"`
}

type inspectedImage struct {
	Size int64           `json:"size"`
	Root *release.Digest `json:"root,omitempty"`
	Salt release.Salt    `json:"salt,omitempty"`
}

type inspectedPart struct {
	Offset  int64          `json:"offset"`
	Length  int64          `json:"length"`
	Payload int64          `json:"payload"`
	SHA256  release.Digest `json:"sha256"` // of the payload
	inspectedBytes
}

// inspectedBytes counts bytes of the target by how they are made.
type inspectedBytes struct {
	Zero         int64 `json:"zero"`
	Copy         int64 `json:"copy"`
	Data         int64 `json:"data"`
	DataPayload  int64 `json:"dataPayload"` // what data takes in the delta
	Dictionary   int64 `json:"dictionary"`  // old bytes that help to decode data
	Instructions int   `json:"instructions"`
}

func inspect(f *input) (*inspection, error) {
	if f.isPatch() {
		return inspectPatch(f)
	}
	h, err := decode.Container{Reader: f, Size: f.size}.Head()
	if err != nil {
		return nil, err
	}
	encoded, err := h.Encode()
	if err != nil {
		return nil, err
	}
	r := &inspection{
		Format: "twinkeel", Size: f.size,
		Head:    &release.Head{SHA256: release.DigestOf(encoded), Size: int64(len(encoded))},
		Target:  inspectedImage{h.Target.Size, &h.Target.Root, h.Target.Salt},
		Padding: h.Padding,
		Ratio:   float64(f.size) / float64(h.Target.Size),
	}
	if !h.Base.IsZero() {
		r.Base = &inspectedImage{h.Base.Size, &h.Base.Root, h.Base.Salt}
	}
	var d decode.Decoder
	var total decode.Summary
	payload := make([]byte, deltas.MaxPayload)
	for i, s := range h.Segments {
		b := payload[:s.PayloadLength]
		if n, err := f.ReadAt(b, s.PayloadOffset); n < len(b) {
			return nil, fmt.Errorf("segment %d: %w", i, err)
		}
		sum, err := d.Summarize(b, s)
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", i, err)
		}
		total.Add(sum)
		r.Segments = append(r.Segments, inspectedPart{s.Offset, s.Length, s.PayloadLength, s.Payload, counted(sum)})
	}
	r.Total = counted(total)
	return r, nil
}

func counted(s decode.Summary) inspectedBytes {
	return inspectedBytes{s.Zero, s.Copy, s.Data, s.DataPayload, s.Dictionary, s.Instructions}
}

func inspectPatch(f *input) (*inspection, error) {
	b, err := readInput(f.Name(), bsdiff40.DefaultLimit)
	if err != nil {
		return nil, err
	}
	h, err := bsdiff40.ParseHeader(b)
	if err != nil {
		return nil, err
	}
	return &inspection{
		Format: "bsdiff40", Size: f.size,
		Target: inspectedImage{Size: h.NewSize},
		Ratio:  float64(f.size) / float64(max(h.NewSize, 1)),
	}, nil
}

func (r *inspection) print(t *terminal) {
	t.say("format    %s", r.Format)
	t.say("size      %d bytes, %.2f %% of the target", r.Size, 100*r.Ratio)
	if r.Head == nil {
		t.say("target    %d bytes", r.Target.Size)
		return
	}
	if r.Base == nil {
		t.say("base      none: a full image")
	} else {
		t.say("base      %d bytes, root %s", r.Base.Size, r.Base.Root)
	}
	t.say("target    %d bytes, root %s", r.Target.Size, r.Target.Root)
	if r.Padding > 0 {
		t.say("padding   %d bytes", r.Padding)
	}
	t.say("head      %d bytes, sha256 %s\n", r.Head.Size, r.Head.SHA256)
	const row = "%12v %10v %10v %10v %10v %10v %10v"
	t.say(row, "offset", "length", "zero", "copy", "data", "payload", "steps")
	for _, s := range r.Segments {
		t.say(row, s.Offset, s.Length, s.Zero, s.Copy, s.Data, s.Payload, s.Instructions)
	}
	t.say(row, "all", r.Target.Size, r.Total.Zero, r.Total.Copy, r.Total.Data, r.Size-r.Head.Size, r.Total.Instructions)
}
