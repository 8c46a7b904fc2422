package deltas

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

func digest(b byte) release.Digest { return release.DigestOf([]byte{b}) }

// testHead is valid: a delta of two segments, with padding.
func testHead() *Head {
	return &Head{
		Base:    Identity{Size: 3 * verity.BlockSize, Root: digest(1), Salt: release.Salt{1, 2}},
		Target:  Identity{Size: verity.NodeSpan + 2*verity.BlockSize, Root: digest(2)},
		Padding: 100,
		Segments: []Segment{
			{Length: verity.NodeSpan, PayloadLength: 10, Payload: digest(3), Target: digest(4)},
			{Length: 2 * verity.BlockSize, PayloadLength: 300, Payload: digest(5), Target: digest(6)},
		},
	}
}

// seal gives b, but for its last 32 bytes, the length and digest that fit.
func seal(b []byte) []byte {
	b = bytes.Clone(b[:max(len(b)-checkSize, PrefixSize)])
	binary.BigEndian.PutUint32(b[len(magic)+1:], uint32(len(b)+checkSize))
	sum := release.DigestOf(b)
	return append(b, sum[:]...)
}

func TestParsedHeadSaysWhereSegmentsAndPayloadsLie(t *testing.T) {
	b, err := testHead().Encode()
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHead(b)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(b))
	for i, want := range [][2]int64{{0, n}, {verity.NodeSpan, n + 10}} {
		if got := [2]int64{h.Segments[i].Offset, h.Segments[i].PayloadOffset}; got != want {
			t.Errorf("segment %d: got offsets %v, want %v", i, got, want)
		}
	}
	if got, want := h.Size(), n+310; got != want {
		t.Errorf("container size: got %d, want %d", got, want)
	}
}

func TestHeadThatNoPublisherMakesIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Head)
		want   string
	}{
		{"no segments", func(h *Head) { h.Segments = nil }, "are in no segment"},
		{"segments too short", func(h *Head) { h.Segments = h.Segments[:1] }, "are in no segment"},
		{"segments too long", func(h *Head) { h.Segments[1].Length += verity.BlockSize }, "segment 1: length"},
		{"segment of nothing", func(h *Head) { h.Segments[0].Length = 0 }, "segment 0: length"},
		{"segment that is no whole spans", func(h *Head) { h.Segments[0].Length -= verity.BlockSize }, "multiple of"},
		{"segment beyond the limit", func(h *Head) {
			h.Target.Size = MaxSegment + verity.NodeSpan
			h.Segments[0].Length = MaxSegment + verity.NodeSpan
			h.Segments = h.Segments[:1]
		}, "length"},
		{"payload of nothing", func(h *Head) { h.Segments[0].PayloadLength = 0 }, "payload"},
		{"payload beyond the limit", func(h *Head) { h.Segments[0].PayloadLength = MaxPayload + 1 }, "payload"},
		{"payload digest missing", func(h *Head) { h.Segments[0].Payload = release.Digest{} }, "digest is missing"},
		{"target digest missing", func(h *Head) { h.Segments[0].Target = release.Digest{} }, "digest is missing"},
		{"target of one block", func(h *Head) { h.Target.Size = verity.BlockSize }, "target: image size"},
		{"target of broken blocks", func(h *Head) { h.Target.Size++ }, "target: image size"},
		{"target beyond the limit", func(h *Head) { h.Target.Size = release.MaxImageSize + verity.BlockSize }, "target: image size"},
		{"target root missing", func(h *Head) { h.Target.Root = release.Digest{} }, "target: root is missing"},
		{"target salt too long", func(h *Head) { h.Target.Salt = make(release.Salt, 33) }, "target: salt"},
		{"base root missing", func(h *Head) { h.Base.Root = release.Digest{} }, "base: root is missing"},
		{"base of one block", func(h *Head) { h.Base.Size = verity.BlockSize }, "base: image size"},
		{"padding of a whole block", func(h *Head) { h.Padding = verity.BlockSize }, "padding"},
		{"negative padding", func(h *Head) { h.Padding = -1 }, "padding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := testHead()
			c.change(h)
			if _, err := h.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("encode: got %v, want an error with %q", err, c.want)
			}
			// The parser has to find it as well. Lengths that are not whole blocks cannot
			// be written, they come out rounded down.
			if got, err := ParseHead(h.encode()); err == nil && !bytes.Equal(got.encode(), h.encode()) {
				t.Errorf("parse: got no error and another head")
			} else if err == nil && !strings.Contains(c.name, "broken") && !strings.Contains(c.name, "limit") {
				t.Errorf("parse: got no error")
			}
		})
	}
}

func TestHeadBytesThatAreNotCanonicalAreRefused(t *testing.T) {
	good, err := testHead().Encode()
	if err != nil {
		t.Fatal(err)
	}
	longer := func(b []byte, at int) []byte { // writes the number at b[at] with one byte more
		out := append(bytes.Clone(b[:at]), b[at]|0x80, 0)
		return seal(append(out, b[at+1:]...))
	}
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "not a twinkeel container"},
		{"other magic", set(0, 'X'), "not a twinkeel container"},
		{"later version", set(len(magic), 2), "container version: got 2, want 1"},
		{"version that was never kept", set(len(magic), 0), "container version: got 0, want 1"},
		{"head of 4 GiB", set(len(magic)+1, 0xff), "head size"},
		{"byte behind the head", append(bytes.Clone(good), 0), "got"},
		{"unknown flag", seal(set(PrefixSize, 2)), "number: got 2"},
		{"other digest", set(len(good)-1, good[len(good)-1]^1), "damaged"},
		{"other padding", set(PrefixSize+38, 5), "damaged"},
		{"bytes behind the segments", seal(append(bytes.Clone(good), 0)), "behind the last segment"},
		{"longer number", longer(good, PrefixSize+1), "canonical"},
		{"number of ten bytes", append(bytes.Clone(good[:PrefixSize+1]), bytes.Repeat([]byte{0xff}, 12)...), "want"},
		{"base of zeros", func() []byte {
			h := testHead()
			h.Base = Identity{}
			b := h.encode()
			return seal(append(append(bytes.Clone(b[:PrefixSize]), append([]byte{1}, make([]byte, 34)...)...), b[PrefixSize+1:]...))
		}(), "canonical"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseHead(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	for n := range good {
		if _, err := ParseHead(good[:n]); err == nil {
			t.Errorf("truncated to %d bytes: got no error", n)
		}
	}
}

// A count of segments must not make the parser allocate what the bytes cannot hold.
func TestSegmentCountIsBoundedByTheBytes(t *testing.T) {
	h := testHead()
	h.Segments = nil
	b := h.encode()
	b = append(b[:len(b)-checkSize-1], 0xff, 0xff, 0xff, 0xff, 7)
	b = seal(append(b, make([]byte, checkSize)...))
	if _, err := ParseHead(b); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("got %v, want an error with %q", err, "do not fit")
	}
}

func TestEncodedHeadParsesToItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		identity := func(blocks int64) Identity {
			return Identity{
				Size: blocks * verity.BlockSize,
				Root: digest(rapid.Byte().Draw(t, "root")),
				Salt: rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "salt"),
			}
		}
		h := &Head{Target: identity(rapid.Int64Range(2, 100000).Draw(t, "target"))}
		if rapid.Bool().Draw(t, "delta") {
			h.Base = identity(rapid.Int64Range(2, 100000).Draw(t, "base"))
		}
		h.Padding = rapid.Int64Range(0, verity.BlockSize-1).Draw(t, "padding")
		for left := h.Target.Size; left > 0; {
			n := min(left, rapid.Int64Range(1, 128).Draw(t, "spans")*verity.NodeSpan)
			h.Segments = append(h.Segments, Segment{
				Length: n, PayloadLength: rapid.Int64Range(1, MaxPayload).Draw(t, "payload"),
				Payload: digest(rapid.Byte().Draw(t, "digest")), Target: digest(rapid.Byte().Draw(t, "digest")),
			})
			left -= n
		}
		b, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseHead(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("parsed and encoded again, the head differs (%v)", err)
		}
	})
}

func TestHeadMatchesOnlyItsManifest(t *testing.T) {
	h := testHead()
	img := release.Image{Size: h.Target.Size, Root: h.Target.Root, Salt: h.Target.Salt}
	if err := h.Matches(img, h.Base.Root); err != nil {
		t.Fatal(err)
	}
	if h.Matches(img, release.Digest{}) == nil {
		t.Error("a delta passes as a full image")
	}
	for name, change := range map[string]func(*release.Image){
		"size": func(i *release.Image) { i.Size += verity.BlockSize },
		"root": func(i *release.Image) { i.Root = digest(9) },
		"salt": func(i *release.Image) { i.Salt = release.Salt{0} },
	} {
		other := img
		change(&other)
		if h.Matches(other, h.Base.Root) == nil {
			t.Errorf("another %s passes", name)
		}
	}
	h.Base = Identity{}
	if err := h.Matches(img, release.Digest{}); err != nil {
		t.Error(err)
	}
	if h.Matches(img, digest(1)) == nil {
		t.Error("a full image passes as a delta")
	}
}

func FuzzParseHead(f *testing.F) {
	good, err := testHead().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	full := testHead()
	full.Base = Identity{}
	if good, err = full.Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Most inputs fail at length or digest; corrected, more of them reach what is
		// behind. Both are in tables of tests.
		if len(b) > PrefixSize+checkSize {
			b = seal(b)
		}
		h, err := ParseHead(b)
		if err != nil {
			return
		}
		again, err := h.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("parsed and encoded again, the head differs (%v)", err)
		}
		var offset int64
		payload := int64(len(b))
		for _, s := range h.Segments {
			if s.Offset != offset || s.PayloadOffset != payload || s.Length <= 0 || s.PayloadLength <= 0 {
				t.Fatalf("segment %+v, want it at %d with its payload at %d", s, offset, payload)
			}
			offset += s.Length
			payload += s.PayloadLength
		}
		if offset != h.Target.Size || payload != h.Size() {
			t.Fatalf("segments end at %d of %d bytes", offset, h.Target.Size)
		}
	})
}
