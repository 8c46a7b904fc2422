package decode

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// The vectors are what publishers have made. Another implementation can use them too:
// NAME.twk, applied to NAME.old if that is there, makes what NAME.json describes.
func TestGoldenContainersMakeTheirImages(t *testing.T) {
	const dir = "../../testdata/delta"
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) < 9 {
		t.Fatalf("got %d vectors, want at least 9 (%v)", len(names), err)
	}
	for _, name := range names {
		name = strings.TrimSuffix(name, ".json")
		t.Run(filepath.Base(name), func(t *testing.T) {
			var v struct {
				Segments         int
				OldRoot, NewRoot release.Digest
				OldSalt, NewSalt release.Salt
				NewSize          int64
				NewSHA256        release.Digest
			}
			if err := json.Unmarshal(read(t, name+".json"), &v); err != nil {
				t.Fatal(err)
			}
			b := read(t, name+".twk")
			c := Container{Reader: bytes.NewReader(b), Size: int64(len(b))}
			h, err := c.Head()
			if err != nil {
				t.Fatal(err)
			}
			if len(h.Segments) != v.Segments || h.Base.Root != v.OldRoot || h.Target.Root != v.NewRoot ||
				!bytes.Equal(h.Base.Salt, v.OldSalt) || !bytes.Equal(h.Target.Salt, v.NewSalt) {
				t.Errorf("head: got %+v, want %+v", h, v)
			}
			var base *Base
			if !v.OldRoot.IsZero() {
				old := read(t, name+".old")
				base = &Base{Reader: bytes.NewReader(old), Size: int64(len(old))}
			}
			var out bytes.Buffer
			if err := Apply(context.Background(), c, base, &out, Options{}); err != nil {
				t.Fatal(err)
			}
			if int64(out.Len()) != v.NewSize || release.DigestOf(out.Bytes()) != v.NewSHA256 {
				t.Errorf("got %d bytes with digest %s, want %d with %s", out.Len(), release.DigestOf(out.Bytes()), v.NewSize, v.NewSHA256)
			}
			if h.Target.Size < verity.MinSize {
				t.Errorf("target of %d bytes", h.Target.Size)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
