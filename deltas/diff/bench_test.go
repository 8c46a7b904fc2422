package diff

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/deltas/decode"
)

// benchImages are 64 MiB, of which the new one has 1 % of its blocks changed.
func benchImages(b *testing.B) (old *os.File, oldBytes, newBytes []byte) {
	b.Helper()
	oldBytes = make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(oldBytes)
	newBytes = bytes.Clone(oldBytes)
	for at := 0; at < len(newBytes); at += 100 * blockSize {
		copy(newBytes[at+100:], "a few bytes of this block are other ones")
	}
	path := filepath.Join(b.TempDir(), "old")
	if err := os.WriteFile(path, oldBytes, 0o600); err != nil {
		b.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { old.Close() })
	return old, oldBytes, newBytes
}

// rewinding is a file that is written anew each time, so that its blocks are there.
func rewinding(b *testing.B) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "new"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// BenchmarkApply compares a delta's application, hash tree included, with reading,
// hashing and writing the same bytes and nothing else.
func BenchmarkApply(b *testing.B) {
	old, oldBytes, newBytes := benchImages(b)
	_, container := create(b, source(oldBytes, nil), source(newBytes, nil), 2)
	b.Run("delta", func(b *testing.B) {
		out := rewinding(b)
		base := &decode.Base{Reader: old, Size: int64(len(oldBytes))}
		c := decode.Container{Reader: bytes.NewReader(container), Size: int64(len(container))}
		b.SetBytes(int64(len(newBytes)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := out.Seek(0, io.SeekStart); err != nil {
				b.Fatal(err)
			}
			if err := decode.Apply(context.Background(), c, base, out, decode.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain", func(b *testing.B) {
		out := rewinding(b)
		buf := make([]byte, 512<<10)
		b.SetBytes(int64(len(newBytes)))
		b.ReportAllocs()
		for b.Loop() {
			h := sha256.New()
			for at := int64(0); at < int64(len(oldBytes)); at += int64(len(buf)) {
				if _, err := old.ReadAt(buf, at); err != nil {
					b.Fatal(err)
				}
				h.Write(buf)
				if _, err := out.WriteAt(buf, at); err != nil {
					b.Fatal(err)
				}
			}
			h.Sum(nil)
		}
	})
}

// BenchmarkCreate makes the same delta.
func BenchmarkCreate(b *testing.B) {
	_, oldBytes, newBytes := benchImages(b)
	b.SetBytes(int64(len(newBytes)))
	for b.Loop() {
		create(b, source(oldBytes, nil), source(newBytes, nil), 0)
	}
}
