package diff

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/decode"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

func source(b []byte, salt release.Salt) *Source {
	return &Source{Reader: bytes.NewReader(b), Size: int64(len(b)), Salt: salt}
}

// create makes a container with the given number of threads.
func create(t testing.TB, old, new *Source, threads int) (Result, []byte) {
	t.Helper()
	var out bytes.Buffer
	r, err := Create(context.Background(), old, new, &out, Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	return r, out.Bytes()
}

func apply(container []byte, old *Source) ([]byte, error) {
	var base *decode.Base
	if old != nil {
		base = &decode.Base{Reader: old.Reader, Size: old.Size}
	}
	var out bytes.Buffer
	c := decode.Container{Reader: bytes.NewReader(container), Size: int64(len(container))}
	err := decode.Apply(context.Background(), c, base, &out, nil)
	return out.Bytes(), err
}

// randomBytes are pages of noise, text and zeros.
func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for at := 0; at < n; {
		m := min(1+r.IntN(5*verity.BlockSize), n-at)
		switch r.IntN(4) {
		case 0: // zeros
		case 1:
			for i := range m {
				b[at+i] = "the quick brown fox\n"[(at*7+i*i/3)%20]
			}
		default:
			for i := range m {
				b[at+i] = byte(r.Uint32())
			}
		}
		at += m
	}
	return b
}

// edit returns b after random insertions, removals, moves and changes.
func edit(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range r.IntN(20) {
		at := r.IntN(len(b) + 1)
		n := r.IntN(min(len(b)-at, 1<<r.IntN(20)) + 1)
		switch r.IntN(5) {
		case 0:
			b = append(b[:at:at], b[at+n:]...)
		case 1:
			b = append(b[:at:at], append(randomBytes(r, r.IntN(1<<r.IntN(18))), b[at:]...)...)
		case 2:
			clear(b[at : at+n])
		case 3:
			to := r.IntN(len(b) + 1)
			copy(b[to:], bytes.Clone(b[at:at+n]))
		default:
			for range 1 + n/300 {
				if n > 0 {
					b[at+r.IntN(n)]++
				}
			}
		}
	}
	return b
}

func TestAppliedContainerIsTheNewImageWithAnyNumberOfThreads(t *testing.T) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := r.IntN(1 << (2 + r.IntN(21)))
		if seed%8 == 0 {
			size += 2 * chunkSize
		}
		oldBytes := randomBytes(r, size)
		newBytes := edit(r, oldBytes)
		old, new := source(oldBytes, release.Salt{1, 2}), source(newBytes, release.Salt{3})
		if seed%5 == 4 {
			old = nil
		}
		res, one := create(t, old, new, 1)
		for _, threads := range []int{2, 5} {
			if _, b := create(t, old, new, threads); !bytes.Equal(b, one) {
				t.Fatalf("seed %d: %d threads made another container", seed, threads)
			}
		}
		got, err := apply(one, old)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(got, newBytes) {
			t.Fatalf("seed %d: applied container is not the new image", seed)
		}
		if res.Blob.Size != int64(len(one)) || res.Blob.SHA256 != release.DigestOf(one) ||
			res.Blob.Head.SHA256 != release.DigestOf(one[:res.Blob.Head.Size]) {
			t.Fatalf("seed %d: result %+v does not describe the container", seed, res.Blob)
		}
		root, err := verity.Root(deltas.Pad(new.Reader, new.Size), deltas.PaddedSize(new.Size), new.Salt)
		if err != nil || root != res.Head.Target.Root {
			t.Fatalf("seed %d: target root: got %s, want %s (%v)", seed, res.Head.Target.Root, root, err)
		}
	}
}
