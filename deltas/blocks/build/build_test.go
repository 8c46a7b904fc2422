package build

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/blocks"
	"github.com/twinkeel/twinkeel/deltas/diff"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// picture is an image of n bytes: noise, text and holes.
func picture(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for at := 0; at < n; at += 10_000 {
		part := b[at:min(at+10_000, n)]
		switch kind := r.IntN(3); kind {
		case 0, 1:
			for i := range part {
				part[i] = byte(r.IntN(1 + 255*kind))
				part[i] += byte(i / 100)
			}
		}
	}
	return b
}

func source(b []byte) *diff.Source {
	return &diff.Source{Reader: bytes.NewReader(b), Size: int64(len(b)), Salt: release.Salt{1, 2}}
}

func make1(t *testing.T, img []byte, threads int) ([]byte, release.Blob) {
	t.Helper()
	var out bytes.Buffer
	blob, err := Create(t.Context(), source(img), &out, Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), blob
}

func TestFramesMakeTheImageAgain(t *testing.T) {
	for _, n := range []int{1, verity.MinSize, 3 * verity.BlockSize, verity.NodeSpan - 1, 2*verity.NodeSpan + 1, 5*verity.NodeSpan + 12345} {
		img := picture(n, uint64(n))
		b, blob := make1(t, img, 1)
		again, _ := make1(t, img, 3)
		if !bytes.Equal(b, again) {
			t.Errorf("%d bytes: other bytes with other threads", n)
		}
		if blob.Size != int64(len(b)) || blob.SHA256 != release.DigestOf(b) || blob.Head.SHA256 != release.DigestOf(b[:blob.Head.Size]) {
			t.Errorf("%d bytes: got %+v for %d bytes", n, blob, len(b))
		}
		if err := Verify(t.Context(), bytes.NewReader(b), blob, nil); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		m, err := blocks.Parse(b[:blob.Head.Size])
		if err != nil {
			t.Fatal(err)
		}
		size := deltas.PaddedSize(int64(n))
		root, err := verity.Root(deltas.Pad(bytes.NewReader(img), int64(n)), size, release.Salt{1, 2})
		if err != nil || root != m.Target().Root || size != m.Target().Size {
			t.Errorf("%d bytes: got %+v, want root %s: %v", n, m.Target(), root, err)
		}
	}
}

func TestVerifyFindsEveryDamage(t *testing.T) {
	b, blob := make1(t, picture(200_000, 5), 1)
	for at := int64(0); at < int64(len(b)); at += 509 {
		bad := bytes.Clone(b)
		bad[at] ^= 0x10
		if Verify(t.Context(), bytes.NewReader(bad), blob, nil) == nil {
			t.Errorf("a bit at %d: accepted", at)
		}
	}
	if Verify(t.Context(), bytes.NewReader(b[:len(b)-1]), blob, nil) == nil {
		t.Error("truncated: accepted")
	}
}

func TestCreateStopsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	_, err := Create(ctx, source(picture(4*verity.NodeSpan, 1)), &out, Options{Threads: 1, Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("got %v and %d bytes", err, out.Len())
	}
	if _, err := Create(t.Context(), &diff.Source{Reader: bytes.NewReader(nil), Size: 5000}, &out, Options{}); err == nil {
		t.Error("a source that is shorter than it says: accepted")
	}
	if _, err := Create(t.Context(), &diff.Source{Reader: bytes.NewReader(nil), Size: 64 << 30}, &out, Options{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("64 GiB: got %v", err)
	}
}
