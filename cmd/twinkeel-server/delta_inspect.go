package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/bsdiff40"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/release"
)

// inspection is what delta inspect says; its JSON form is relied on by scripts.
type inspection struct {
	Format  string          `json:"format"` // twinkeel or bsdiff40
	Size    int64           `json:"size"`   // of the delta, bytes
	Head    *release.Head   `json:"head,omitempty"`
	Base    *inspectedImage `json:"base,omitempty"` // not there for a full image
	Target  inspectedImage  `json:"target"`
	Padding int64           `json:"padding"` // of target.size
	Ratio   float64         `json:"ratio"`   // delta bytes for one byte of target
	Total   inspectedBytes  `json:"total"`
	// Streams says what the delta's bytes are: all but its head and the headers of payloads.
	Streams  []inspectedStream `json:"streams,omitempty"`
	Files    []inspectedFile   `json:"files,omitempty"` // the dearest first; only if the images are given
	Segments []inspectedPart   `json:"segments"`
}

// inspectedStream sums up one kind of stream over all segments.
type inspectedStream struct {
	Stream  string           `json:"stream"`
	Decoded int64            `json:"decoded"`
	Bytes   int64            `json:"bytes"`  // in the delta
	Codecs  map[string]int64 `json:"codecs"` // bytes in the delta by how they are coded
}

// The names of streams and codecs are those of docs/format-delta.md.
var (
	streamNames = map[deltas.StreamID]string{deltas.StreamOps: "instructions",
		deltas.StreamData: "data", deltas.StreamModes: "modes", deltas.StreamDifference: "difference"}
	codecNames = map[deltas.Codec]string{deltas.CodecRaw: "raw", deltas.CodecZstd: "zstd",
		deltas.CodecAdaptive: "adaptive"}
)

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
	Diff         int64 `json:"diff"` // bytes of the base with a difference added
	DiffPayload  int64 `json:"diffPayload"`
	Data         int64 `json:"data"`
	DataPayload  int64 `json:"dataPayload"` // what data takes in the delta
	Instructions int   `json:"instructions"`
}

// inspect looks into f. files, if not nil, shares its bytes out among files.
func inspect(f *input, files *shares) (*inspection, error) {
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
		if err := r.countStreams(b); err != nil {
			return nil, fmt.Errorf("segment %d: %w", i, err)
		}
		if files != nil {
			if err := files.add(b, s); err != nil {
				return nil, fmt.Errorf("segment %d: %w", i, err)
			}
		}
		r.Segments = append(r.Segments, inspectedPart{s.Offset, s.Length, s.PayloadLength, s.Payload, counted(sum)})
	}
	r.Total = counted(total)
	if files != nil {
		r.Files = files.costly()
	}
	return r, nil
}

func counted(s decode.Summary) inspectedBytes {
	return inspectedBytes{s.Zero, s.Copy, s.Diff, s.DiffPayload, s.Data, s.DataPayload, s.Instructions}
}

// countStreams adds the streams of a payload, which was verified.
func (r *inspection) countStreams(payload []byte) error {
	streams, err := deltas.ParsePayload(payload)
	if err != nil {
		return err
	}
	for id, s := range streams {
		if len(s.Body) == 0 {
			continue
		}
		name := nameOf(streamNames, deltas.StreamID(id))
		i := slices.IndexFunc(r.Streams, func(k inspectedStream) bool { return k.Stream == name })
		if i < 0 {
			i = len(r.Streams)
			r.Streams = append(r.Streams, inspectedStream{Stream: name, Codecs: map[string]int64{}})
		}
		r.Streams[i].Decoded += int64(s.Size)
		r.Streams[i].Bytes += int64(len(s.Body))
		r.Streams[i].Codecs[nameOf(codecNames, s.Codec)] += int64(len(s.Body))
	}
	return nil
}

func nameOf[K ~byte](names map[K]string, k K) string {
	if name, ok := names[k]; ok {
		return name
	}
	return fmt.Sprintf("%d", k)
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
	r.printTotals(t)
	if len(r.Files) > 0 {
		r.printFiles(t)
	}
	t.say("")
	const row = "%12v %10v %10v %10v %10v %10v %10v %10v"
	t.say(row, "offset", "length", "zero", "copy", "diff", "data", "payload", "steps")
	for _, s := range r.Segments {
		t.say(row, s.Offset, s.Length, s.Zero, s.Copy, s.Diff, s.Data, s.Payload, s.Instructions)
	}
	t.say(row, "all", r.Target.Size, r.Total.Zero, r.Total.Copy, r.Total.Diff, r.Total.Data, r.Size-r.Head.Size, r.Total.Instructions)
}

// printTotals prints what the target is made of, and what that takes in the delta.
func (r *inspection) printTotals(t *terminal) {
	const operation = "%-12s %14v %8s %12v"
	share := func(n int64) string { return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(r.Target.Size)) }
	t.say(operation, "operation", "of target", "", "of delta")
	t.say(operation, "zero", r.Total.Zero, share(r.Total.Zero), 0)
	t.say(operation, "copy", r.Total.Copy, share(r.Total.Copy), 0)
	t.say(operation, "diff", r.Total.Diff, share(r.Total.Diff), r.Total.DiffPayload)
	t.say(operation, "data", r.Total.Data, share(r.Total.Data), r.Total.DataPayload)
	t.say("")
	const stream = "%-12s %14v %8s %12v  %s"
	t.say(stream, "stream", "decoded", "", "of delta", "codecs")
	for _, s := range r.Streams {
		var codecs []string
		for _, name := range slices.Sorted(maps.Keys(s.Codecs)) {
			codecs = append(codecs, fmt.Sprintf("%s %d", name, s.Codecs[name]))
		}
		t.say(stream, s.Stream, s.Decoded, fmt.Sprintf("%.2f%%", 100*float64(s.Bytes)/float64(r.Size)), s.Bytes, strings.Join(codecs, ", "))
	}
}
