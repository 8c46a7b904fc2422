package diff

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/needs"
)

// compressors are what images are found compressed with: a filter, or nil.
func compressors() map[string]func(t *testing.T, b []byte) []byte {
	filter := func(name string, args ...string) func(*testing.T, []byte) []byte {
		return func(t *testing.T, b []byte) []byte {
			needs.Tools(t, name)
			cmd := exec.Command(name, args...)
			cmd.Stdin = bytes.NewReader(b)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	write := func(t *testing.T, w io.WriteCloser, err error, b []byte) {
		if err == nil {
			_, err = w.Write(b)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(t *testing.T, b []byte) []byte{
		"gzip": func(t *testing.T, b []byte) []byte {
			var out bytes.Buffer
			w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
			write(t, w, err, b)
			return out.Bytes()
		},
		"zstd": func(t *testing.T, b []byte) []byte {
			var out bytes.Buffer
			w, err := zstd.NewWriter(&out)
			write(t, w, err, b)
			return out.Bytes()
		},
		"xz":  filter("xz", "-9", "-c"),
		"lz4": filter("lz4", "-9", "-c"),
	}
}

// What is compressed looks new wherever it changed: a delta of it must not cost more than
// the image that it replaces.
func TestDeltasOfCompressedContentAreNoLargerThanFullImages(t *testing.T) {
	text := func(from int) (b []byte) {
		for i := from; i < from+60_000; i++ {
			b = fmt.Appendf(b, "%x %d line of text, number %d\n", i*i*7919, i%97, i)
		}
		return b
	}
	for name, compress := range compressors() {
		t.Run(name, func(t *testing.T) {
			old, new := source(compress(t, text(0)), nil), source(compress(t, text(3)), nil)
			_, delta := create(t, old, new, 2)
			_, full := create(t, nil, new, 2)
			if len(delta) > len(full)+len(full)/1000 {
				t.Errorf("a delta of %d bytes, and %d in full", len(delta), len(full))
			}
		})
	}
}

func TestNoStreamIsCodedInMoreBytesThanItHas(t *testing.T) {
	noise := bytes.Repeat([]byte{0}, 5000)
	seed := uint32(1)
	for i := range noise {
		seed = seed*1664525 + 1013904223
		noise[i] = byte(seed >> 24)
	}
	list := deltas.AppendInstructions(nil, []deltas.Instruction{{Op: deltas.OpData, Length: 1}})
	for _, k := range []*coder{{full: true}, {}} {
		for id, b := range map[deltas.StreamID][]byte{
			deltas.StreamOps: list, deltas.StreamData: noise, deltas.StreamModes: noise[:7], deltas.StreamDifference: noise,
		} {
			s, err := k.stream(id, b)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Body) > len(b) || len(s.Body) == len(b) && s.Codec != deltas.CodecRaw {
				t.Errorf("stream %d: %d bytes became %d by codec %d", id, len(b), len(s.Body), s.Codec)
			}
		}
	}
}
