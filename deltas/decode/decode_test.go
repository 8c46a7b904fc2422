package decode

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/coder"
	"github.com/twinkeel/twinkeel/deltas/predict"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// segment describes payload, as its head would.
func segment(payload []byte, length int64) deltas.Segment {
	return deltas.Segment{Length: length, PayloadLength: int64(len(payload)), Payload: release.DigestOf(payload)}
}

func raw(id deltas.StreamID, b []byte) deltas.Stream {
	return deltas.Stream{ID: id, Codec: deltas.CodecRaw, Size: len(b), Body: b}
}

func compressed(t testing.TB, id deltas.StreamID, b []byte) deltas.Stream {
	t.Helper()
	e, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return deltas.Stream{ID: id, Codec: deltas.CodecZstd, Size: len(b), Body: e.EncodeAll(b, nil)}
}

func adaptive(t testing.TB, id deltas.StreamID, b []byte) deltas.Stream {
	t.Helper()
	code, err := new(coder.Encoder).Encode(Kind(id), b)
	if err != nil {
		t.Fatal(err)
	}
	return deltas.Stream{ID: id, Codec: deltas.CodecAdaptive, Size: len(b), Body: code}
}

func ops(list ...deltas.Instruction) []byte { return deltas.AppendInstructions(nil, list) }

func payload(streams ...deltas.Stream) []byte { return deltas.AppendPayload(nil, streams) }

// run decodes and executes a payload.
func run(d *Decoder, payload []byte, length int64, base []byte) ([]byte, error) {
	var r io.ReaderAt
	if base != nil {
		r = bytes.NewReader(base)
	}
	var plan, out bytes.Buffer
	s := segment(payload, length)
	if err := d.Decode(payload, s, r, &plan); err != nil {
		return nil, err
	}
	err := deltas.Execute(&plan, s, r, int64(len(base)), &out)
	return out.Bytes(), err
}

func testBase() []byte {
	b := make([]byte, 4*verity.BlockSize)
	for i := range b {
		b[i] = byte(i*i>>4 + i>>8)
	}
	return b
}

func TestDecodedPayloadIsTheSegment(t *testing.T) {
	base := testBase()
	data := bytes.Repeat([]byte("new data "), 50)
	list := ops(
		deltas.Instruction{Op: deltas.OpCopy, Offset: 5000, Length: 3000},
		deltas.Instruction{Op: deltas.OpData, Length: 400},
		deltas.Instruction{Op: deltas.OpCopy, Offset: 10, Length: 90},
		deltas.Instruction{Op: deltas.OpZero, Length: 652},
		deltas.Instruction{Op: deltas.OpData, Length: 50},
	)
	want := bytes.Join([][]byte{base[5000:8000], data[:400], base[10:100], make([]byte, 652), data[400:]}, nil)
	var d Decoder // used again and again, as a host does
	for name, p := range map[string][]byte{
		"raw":      payload(raw(deltas.StreamOps, list), raw(deltas.StreamData, data)),
		"zstd":     payload(compressed(t, deltas.StreamOps, list), compressed(t, deltas.StreamData, data)),
		"adaptive": payload(adaptive(t, deltas.StreamOps, list), adaptive(t, deltas.StreamData, data)),
	} {
		got, err := run(&d, p, int64(len(want)), base)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the segment differs (%v)", name, err)
		}
	}
}

func TestDifferenceIsAddedToTheBase(t *testing.T) {
	base := testBase()
	list := ops(deltas.Instruction{Op: deltas.OpDiff, Offset: 77, Length: 300}, deltas.Instruction{Op: deltas.OpDiff, Offset: 1000, Length: 400})
	modes := []byte{0, 1, 0} // bytes 256 to 511 are as they were
	difference := make([]byte, 256+188)
	difference[3], difference[256] = 200, 1
	want := append(bytes.Clone(base[77:377]), base[1000:1400]...)
	want[3] += 200
	want[512]++
	var d Decoder
	for range 2 {
		got, err := run(&d, payload(raw(deltas.StreamOps, list), raw(deltas.StreamModes, modes), raw(deltas.StreamDifference, difference)), 700, base)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the segment differs (%v)", err)
		}
	}
}

func TestPayloadIsVerifiedBeforeItIsDecoded(t *testing.T) {
	p := payload(raw(deltas.StreamOps, ops(deltas.Instruction{Op: deltas.OpZero, Length: 1})))
	s := segment(p, 1)
	for i := range p {
		bad := bytes.Clone(p)
		bad[i] ^= 1
		var w bytes.Buffer
		if err := Decode(bad, s, nil, &w); err == nil || !strings.Contains(err.Error(), "got digest") || w.Len() > 0 {
			t.Errorf("byte %d: got %v and a plan of %d bytes", i, err, w.Len())
		}
	}
	if err := Decode(p[:len(p)-1], s, nil, io.Discard); err == nil {
		t.Error("truncated: got no error")
	}
	if err := Decode(append(p, 0), s, nil, io.Discard); err == nil {
		t.Error("longer: got no error")
	}
}

// These payloads have the right digest: a publisher gone wrong, or a stolen key.
func TestHostilePayloadIsRefused(t *testing.T) {
	base := testBase()
	zero := func(n int64) []byte { return ops(deltas.Instruction{Op: deltas.OpZero, Length: n}) }
	data := func(n int64) []byte { return ops(deltas.Instruction{Op: deltas.OpData, Length: n}) }
	diff := func(offset, n int64) []byte {
		return ops(deltas.Instruction{Op: deltas.OpDiff, Offset: offset, Length: n})
	}
	bomb := compressed(t, deltas.StreamData, make([]byte, 16<<20))
	lying := bomb
	lying.Size = 100
	short := compressed(t, deltas.StreamData, make([]byte, 99))
	short.Size = 100
	double := compressed(t, deltas.StreamData, make([]byte, 100))
	double.Body = append(double.Body, double.Body...)
	trailing := compressed(t, deltas.StreamData, make([]byte, 100))
	trailing.Body = append(trailing.Body, "trailing"...)
	for _, c := range []struct {
		name   string
		length int64
		p      []byte
		want   string
	}{
		{"empty", 1, nil, "truncated"},
		{"no streams", 1, []byte{0}, "no instructions"},
		{"too many streams", 1, []byte{5}, "at most 4"},
		{"unknown stream", 1, []byte{1, 4, 0, 1, 1, 0}, "at most 3"},
		{"unknown codec", 1, []byte{1, 0, 3, 1, 1, 0}, "at most 2"},
		{"streams out of order", 100, payload(raw(deltas.StreamData, make([]byte, 100)), raw(deltas.StreamOps, data(100))), "out of order"},
		{"stream twice", 1, payload(raw(deltas.StreamOps, zero(1)), raw(deltas.StreamOps, zero(1))), "out of order"},
		{"raw stream of two sizes", 1, []byte{1, 0, 0, 2, 1, 0}, "cannot be"},
		{"bytes behind the streams", 1, append(payload(raw(deltas.StreamOps, zero(1))), 0), "behind the last stream"},
		{"instructions of 2 MiB", 1, payload(compressed(t, deltas.StreamOps, make([]byte, 2<<20))), "number"},
		{"data of 16 MiB", 1, payload(raw(deltas.StreamOps, zero(1)), bomb), "number"},
		{"bomb", 100, payload(raw(deltas.StreamOps, data(100)), lying), "frame of 16777216 bytes, want 100"},
		{"frame too short", 100, payload(raw(deltas.StreamOps, data(100)), short), "frame of 99 bytes"},
		{"two frames", 100, payload(raw(deltas.StreamOps, data(100)), double), "size"},
		{"bytes behind the frame", 100, payload(raw(deltas.StreamOps, data(100)), trailing), "stream 1"},
		{"no frame", 100, payload(raw(deltas.StreamOps, data(100)), deltas.Stream{ID: deltas.StreamData, Codec: deltas.CodecZstd, Size: 100, Body: []byte("nonsense")}), "stream 1"},
		{"data left over", 99, payload(raw(deltas.StreamOps, data(99)), raw(deltas.StreamData, make([]byte, 100))), "not used"},
		{"data too short", 101, payload(raw(deltas.StreamOps, data(101)), raw(deltas.StreamData, make([]byte, 100))), "early"},
		{"instructions too long", 9, payload(raw(deltas.StreamOps, zero(10))), "number"},
		{"instructions too short", 11, payload(raw(deltas.StreamOps, zero(10))), "truncated"},
		{"instructions behind the end", 10, payload(raw(deltas.StreamOps, append(zero(10), zero(1)...))), "behind the last"},
		{"instruction without progress", 10, payload(raw(deltas.StreamOps, append(zero(0), zero(10)...))), "0 bytes"},
		{"unknown instruction", 10, payload(raw(deltas.StreamOps, []byte{4, 10})), "unknown"},
		{"copy before the base", 10, payload(raw(deltas.StreamOps, []byte{1, 1, 10})), "offset"},
		{"copy beyond all images", 10, payload(raw(deltas.StreamOps, ops(deltas.Instruction{Op: deltas.OpCopy, Offset: release.MaxImageSize + 1, Length: 10}))), "offset"},
		{"difference without modes", 10, payload(raw(deltas.StreamOps, diff(0, 10))), "without modes"},
		{"difference missing", 10, payload(raw(deltas.StreamOps, diff(0, 10)), raw(deltas.StreamModes, []byte{0})), "stream 3 ends"},
		{"unknown mode", 10, payload(raw(deltas.StreamOps, diff(0, 10)), raw(deltas.StreamModes, []byte{2*predict.Modes + 1})), "mode 8 is unknown"},
		{"modes left over", 10, payload(raw(deltas.StreamOps, diff(0, 10)), raw(deltas.StreamModes, []byte{1, 1})), "not used"},
		{"difference left over", 10, payload(raw(deltas.StreamOps, diff(0, 10)), raw(deltas.StreamModes, []byte{1}), raw(deltas.StreamDifference, []byte{1})), "not used"},
		{"difference beyond the base", 10, payload(raw(deltas.StreamOps, diff(4*verity.BlockSize-9, 10)), raw(deltas.StreamModes, []byte{1})), "read base"},
		{"difference of 9 MiB", 10, payload(raw(deltas.StreamOps, diff(0, 10)), raw(deltas.StreamModes, []byte{1}), compressed(t, deltas.StreamDifference, make([]byte, 9<<20))), "number"},
		{"adaptive code cut", 100, payload(raw(deltas.StreamOps, data(100)), deltas.Stream{ID: deltas.StreamData, Codec: deltas.CodecAdaptive, Size: 100, Body: []byte{1}}), "stream 1"},
		{"adaptive bomb", 100, payload(raw(deltas.StreamOps, data(100)), deltas.Stream{ID: deltas.StreamDifference, Codec: deltas.CodecAdaptive, Size: deltas.MaxDifference, Body: []byte{1, 2, 3, 4, 5, 6}}), "stream"},
		{"copy beyond the base", 10, payload(raw(deltas.StreamOps, ops(deltas.Instruction{Op: deltas.OpCopy, Offset: 4*verity.BlockSize - 9, Length: 10}))), "base has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decoder
			if _, err := run(&d, c.p, c.length, base); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if _, err := d.Summarize(c.p, segment(c.p, c.length)); err != nil && strings.Contains(err.Error(), "panic") {
				t.Errorf("summarize: %v", err)
			}
		})
	}
	for name, p := range map[string][]byte{
		"difference": payload(raw(deltas.StreamOps, diff(0, 100)), raw(deltas.StreamModes, []byte{1})),
		"copy":       payload(raw(deltas.StreamOps, ops(deltas.Instruction{Op: deltas.OpCopy, Length: 100}))),
	} {
		if _, err := run(new(Decoder), p, 100, nil); err == nil || !strings.Contains(err.Error(), "without a base") {
			t.Errorf("%s in a full image: got %v, want an error with %q", name, err, "without a base")
		}
	}
}

func TestFloodOfInstructionsIsRefused(t *testing.T) {
	list := bytes.Repeat([]byte{byte(deltas.OpZero), 1}, deltas.MaxOps+1)
	p := payload(compressed(t, deltas.StreamOps, list))
	if _, err := run(new(Decoder), p, deltas.MaxOps+1, nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v, want an error with %q", err, "more than")
	}
}

func TestPlanThatNobodyTakesIsAnError(t *testing.T) {
	p := payload(raw(deltas.StreamOps, ops(deltas.Instruction{Op: deltas.OpZero, Length: 10})))
	r, w := io.Pipe()
	fault := errors.New("fault")
	r.CloseWithError(fault)
	if err := Decode(p, segment(p, 10), nil, w); !errors.Is(err, fault) {
		t.Errorf("got %v, want %v", err, fault)
	}
}

func FuzzDecode(f *testing.F) {
	base := testBase()
	list := ops(deltas.Instruction{Op: deltas.OpCopy, Offset: 100, Length: 50}, deltas.Instruction{Op: deltas.OpData, Length: 100})
	f.Add(payload(raw(deltas.StreamOps, list), raw(deltas.StreamData, base[:100])), uint32(150))
	f.Add(payload(compressed(f, deltas.StreamOps, list), compressed(f, deltas.StreamData, base[:100])), uint32(150))
	f.Add(payload(adaptive(f, deltas.StreamOps, list), adaptive(f, deltas.StreamData, base[:100])), uint32(150))
	changed := ops(deltas.Instruction{Op: deltas.OpDiff, Offset: 100, Length: 50}, deltas.Instruction{Op: deltas.OpDiff, Offset: 300, Length: 1000})
	for mode := range byte(predict.Modes) {
		modes := bytes.Repeat([]byte{2 * mode}, 5)
		f.Add(payload(raw(deltas.StreamOps, changed), raw(deltas.StreamModes, modes), raw(deltas.StreamDifference, base[:1050])), uint32(1049))
		f.Add(payload(raw(deltas.StreamOps, changed), adaptive(f, deltas.StreamModes, modes), adaptive(f, deltas.StreamDifference, base[:1050])), uint32(1049))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, p []byte, length uint32) {
		n := int64(length%(1<<20)) + 1
		// The digest is always right, so that the fuzzer gets behind it.
		got, err := run(&d, p, n, base)
		if err == nil && int64(len(got)) != n {
			t.Fatalf("got %d bytes, want %d", len(got), n)
		}
		if sum, err := d.Summarize(p, segment(p, n)); err == nil && sum.Zero+sum.Copy+sum.Data+sum.Diff != n {
			t.Fatalf("summary of %d bytes, want %d", sum.Zero+sum.Copy+sum.Data+sum.Diff, n)
		}
	})
}
