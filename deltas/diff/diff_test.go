package diff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
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
	err := decode.Apply(context.Background(), c, base, &out, decode.Options{})
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
	for seed := range uint64(16) {
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
		for _, threads := range []int{3} {
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

func TestDataThatMovedByAnyNumberOfBytesIsCopied(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	old := make([]byte, 1<<20)
	for i := range old {
		old[i] = byte(r.Uint32())
	}
	for _, shift := range []int{1, 511, verity.BlockSize - 1, 100001} {
		new := append(make([]byte, shift), old...)
		res, _ := create(t, source(old, nil), source(new, nil), 1)
		if res.Blob.Size > 1000 {
			t.Errorf("moved by %d bytes: the delta has %d bytes", shift, res.Blob.Size)
		}
	}
}

func TestChangedBytesCostLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	old := make([]byte, 4<<20)
	for i := range old {
		old[i] = byte(r.Uint32())
	}
	new := bytes.Clone(old)
	for i := 0; i < len(new); i += 1000 { // so that no block is the same
		new[i]++
	}
	res, _ := create(t, source(old, nil), source(new, nil), 2)
	if limit := int64(4195 * 12); res.Blob.Size > limit {
		t.Errorf("4195 changed bytes: the delta has %d bytes, want at most %d", res.Blob.Size, limit)
	}
}

func TestSegmentsKeepWithinTheLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	noise := make([]byte, 5<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for name, c := range map[string]struct {
		old, new *Source
		longest  int64
	}{
		"full":        {nil, source(noise, nil), fullSegment},
		"full, empty": {nil, source(make([]byte, 9<<20), nil), fullSegment},
		"other":       {source(noise[:8192], nil), source(noise, nil), deltas.MaxLiteral},
		"same":        {source(make([]byte, 8192), nil), source(make([]byte, 65<<20), nil), deltas.MaxSegment},
	} {
		res, _ := create(t, c.old, c.new, 2)
		for i, s := range res.Head.Segments {
			if s.Length > c.longest {
				t.Errorf("%s: segment %d has %d bytes, want at most %d", name, i, s.Length, c.longest)
			}
		}
	}
}

// failing is a source or spool that fails from the offset on.
type failing struct {
	*bytes.Reader
	from int64
}

var errFault = errors.New("fault")

func (f failing) ReadAt(b []byte, offset int64) (int, error) {
	if offset+int64(len(b)) > f.from {
		return 0, errFault
	}
	return f.Reader.ReadAt(b, offset)
}

func (f failing) Write(b []byte) (int, error) { return 0, errFault }

func TestFaultOfSourceSpoolOrOutputComesThrough(t *testing.T) {
	b := randomBytes(rand.New(rand.NewPCG(1, 2)), 9<<20)
	good := source(b, nil)
	bad := &Source{Reader: failing{bytes.NewReader(b), 8 << 20}, Size: good.Size}
	fault := failing{bytes.NewReader(nil), 0}
	for name, c := range map[string]struct {
		old, new *Source
		out      io.Writer
		spool    Spool
	}{
		"old":    {bad, good, io.Discard, nil},
		"new":    {good, bad, io.Discard, nil},
		"output": {nil, good, fault, nil},
		"spool":  {nil, good, io.Discard, fault},
	} {
		_, err := Create(context.Background(), c.old, c.new, c.out, Options{Threads: 3, Spool: c.spool})
		if !errors.Is(err, errFault) {
			t.Errorf("%s: got %v, want %v", name, err, errFault)
		}
	}
	_, container := create(t, good, good, 1)
	if err := Verify(context.Background(), bytes.NewReader(container), int64(len(container)), bad, nil); !errors.Is(err, errFault) {
		t.Errorf("verify: got %v, want %v", err, errFault)
	}
}

func TestProgressGrowsToItsTotalAndCancellationStops(t *testing.T) {
	b := randomBytes(rand.New(rand.NewPCG(5, 2)), 9<<20)
	new := edit(rand.New(rand.NewPCG(5, 3)), b)
	steps, last := 0, int64(0)
	o := Options{Threads: 4, Progress: func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress from %d to %d of %d", last, done, total)
		}
		steps++
		last = done
	}}
	r, err := Create(context.Background(), source(b, nil), source(new, nil), io.Discard, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.Head.Base.Size + 3*r.Head.Target.Size; last != want {
		t.Errorf("progress ends at %d, want %d", last, want)
	}
	for at := 1; at < steps; at += 1 + steps/4 {
		ctx, cancel := context.WithCancelCause(context.Background())
		n := 0
		o := Options{Threads: 4, Progress: func(done, total int64) {
			if n++; n == at {
				cancel(errFault)
			}
		}}
		if _, err := Create(ctx, source(b, nil), source(new, nil), io.Discard, o); !errors.Is(err, errFault) {
			t.Errorf("cancelled at step %d of %d: got %v, want %v", at, steps, err, errFault)
		}
	}
}

func TestVerifyNamesTheWrongBase(t *testing.T) {
	b := randomBytes(rand.New(rand.NewPCG(5, 2)), 1<<20)
	new := edit(rand.New(rand.NewPCG(5, 3)), b)
	_, container := create(t, source(b, nil), source(new, nil), 2)
	verify := func(old *Source) error {
		return Verify(context.Background(), bytes.NewReader(container), int64(len(container)), old, nil)
	}
	if err := verify(source(b, nil)); err != nil {
		t.Error(err)
	}
	other := make([]byte, len(b))
	for name, c := range map[string]struct {
		old  *Source
		want string
	}{
		"other":  {source(other, nil), "base: got root"},
		"longer": {source(append(other, 1), nil), "base: got"},
		"none":   {nil, "base is missing"},
	} {
		if err := verify(c.old); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
