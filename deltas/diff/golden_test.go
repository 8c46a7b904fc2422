package diff

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

var update = flag.Bool("update", false, "write testdata/delta anew")

const goldenDir = "../../testdata/delta"

// vector is NAME.json: what the container NAME.twk leads from and to. The base, if any,
// is NAME.old.
type vector struct {
	Segments  int            `json:"segments"`
	OldRoot   release.Digest `json:"oldRoot"`
	OldSalt   release.Salt   `json:"oldSalt"`
	NewSize   int64          `json:"newSize"` // without padding
	NewSHA256 release.Digest `json:"newSHA256"`
	NewRoot   release.Digest `json:"newRoot"`
	NewSalt   release.Salt   `json:"newSalt"`
}

// goldens are the sources of the vectors, whose bytes are a rule.
func goldens() map[string][2]*Source {
	lines := func(from, to int) (b []byte) {
		for i := from; i < to; i++ {
			b = fmt.Appendf(b, "line %d is %x\n", i, i*i*i*7919)
		}
		return b
	}
	noise := func(seed uint32, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			seed = seed*1664525 + 1013904223
			b[i] = byte(seed >> 24)
		}
		return b
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	old := join(lines(0, 600), noise(1, 9000), make([]byte, 6000), noise(2, 5000))
	changed := join([]byte("inserted"), lines(0, 300), lines(310, 600), noise(1, 9000), make([]byte, 12000), noise(2, 5000), noise(3, 500))
	calls := func(moved int) []byte { // code of 400 calls, of which some moved
		var b []byte
		for i := range 400 {
			b = append(b, 0x55, 0x48, byte(i), byte(i>>3), 0xe8)
			target := (i*37)%400*13 + 1
			at := i * 13
			if i >= 200 {
				at += moved
			}
			if (i*37)%400 >= 200 {
				target += moved
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(target-at-9))
			b = append(b, 0x48, 0x89, byte(i*7), 0xc3)
			if i == 199 {
				b = append(b, make([]byte, moved)...)
			}
		}
		for i := range 300 {
			b = binary.LittleEndian.AppendUint64(b, uint64(0x400000+i*52+moved))
		}
		return b
	}
	salt := release.Salt(bytes.Repeat([]byte{0x5a}, 32))
	return map[string][2]*Source{
		"delta":           {source(old, salt), source(changed, release.Salt{1, 2, 3, 4})},
		"program":         {source(calls(0), nil), source(calls(24), nil)},
		"same":            {source(old, nil), source(old, nil)},
		"nothing-left":    {source(old, nil), source(nil, nil)},
		"from-nothing":    {source(nil, nil), source(old, nil)},
		"full":            {nil, source(old, salt)},
		"full-zero":       {nil, source(make([]byte, 2*verity.BlockSize), nil)},
		"full-two":        {nil, source(join(lines(0, 50), make([]byte, fullSegment), lines(50, 100)), nil)},
		"incompressible":  {nil, source(noise(4, 8192), nil)},
		"two-spans-moved": {source(old, nil), source(join(make([]byte, verity.NodeSpan-100), old), nil)},
	}
}

// TestGoldenContainers makes the containers again. If that was meant to give others, run
// it with -update; deltas/decode applies what is there.
func TestGoldenContainers(t *testing.T) {
	for name, pair := range goldens() {
		t.Run(name, func(t *testing.T) {
			r, container := create(t, pair[0], pair[1], 2)
			v := vector{
				Segments: len(r.Head.Segments),
				OldRoot:  r.Head.Base.Root, OldSalt: r.Head.Base.Salt,
				NewSize: r.Head.Target.Size - r.Head.Padding,
				NewRoot: r.Head.Target.Root, NewSalt: r.Head.Target.Salt,
				NewSHA256: release.DigestOf(contents(t, pair[1])),
			}
			text, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{".twk": container, ".json": append(text, '\n')}
			if pair[0] != nil {
				files[".old"] = contents(t, pair[0])
			}
			for suffix, want := range files {
				path := filepath.Join(goldenDir, name+suffix)
				if *update {
					if err := os.WriteFile(path, want, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s differs from what is made now (%v)", path, err)
				}
			}
		})
	}
}

func contents(t *testing.T, s *Source) []byte {
	t.Helper()
	b := make([]byte, s.Size)
	if n, err := s.Reader.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	return b
}

func TestDamagedContainerNeverMakesAWrongImage(t *testing.T) {
	pair := goldens()["delta"]
	_, good := create(t, pair[0], pair[1], 1)
	want := contents(t, pair[1])
	for n := range good {
		if _, err := apply(good[:n], pair[0]); err == nil {
			t.Fatalf("truncated to %d bytes: got no error", n)
		}
	}
	if _, err := apply(append(bytes.Clone(good), 0), pair[0]); err == nil {
		t.Fatal("longer: got no error")
	}
	for i := range good {
		for _, flip := range []byte{0x01, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if _, err := apply(bad, pair[0]); err == nil {
				t.Fatalf("byte %d: got no error", i)
			}
		}
	}
	old := contents(t, pair[0])
	for i := 0; i < len(old); i += 509 {
		old[i] ^= 0x10
		got, err := apply(good, source(old, pair[0].Salt))
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("byte %d of the base: another image and no error", i)
		}
		old[i] ^= 0x10
	}
}
