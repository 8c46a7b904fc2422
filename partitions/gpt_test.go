package partitions

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// image unpacks a disk image from testdata/gpt.
func image(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("../testdata/gpt", name+".img.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readGPT(b []byte) ([]Partition, error) {
	return ReadGPT(bytes.NewReader(b), int64(len(b)), 512)
}

func TestReadGPTFindsWhatSgdiskWrote(t *testing.T) {
	want := []Partition{
		{1, "boot-a", "aaaaaaaa-0001-0002-0003-00000000000a", 64 * 512, 16 << 10},
		{2, "boot-b", "aaaaaaaa-0001-0002-0003-00000000000b", 96 * 512, 16 << 10},
		{3, "root-a", "aaaaaaaa-0001-0002-0003-00000000001a", 128 * 512, 64 << 10},
		{5, "räksm/örgås π b", "aaaaaaaa-0001-0002-0003-00000000001b", 256 * 512, 64 << 10},
	}
	for _, name := range []string{"good", "primary-header-damaged", "primary-entries-damaged"} {
		got, err := readGPT(image(t, name))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestReadGPTRefusesWhatMeansNothing(t *testing.T) {
	if _, err := readGPT(image(t, "both-damaged")); err == nil || errors.Is(err, ErrNoTable) {
		t.Errorf("both tables damaged: got %v, want damage", err)
	}
	if _, err := readGPT(image(t, "mbr-over-gpt")); !errors.Is(err, ErrNoTable) {
		t.Errorf("an MBR table was written over it: got %v, want ErrNoTable", err)
	}
	for _, size := range []int{0, 100, 1536, 4096, 1 << 20} {
		if _, err := readGPT(make([]byte, size)); !errors.Is(err, ErrNoTable) {
			t.Errorf("%d zero bytes: got %v, want ErrNoTable", size, err)
		}
	}
	if _, err := ReadGPT(bytes.NewReader(nil), 1<<20, 520); err == nil {
		t.Error("sectors of 520 bytes were accepted")
	}
	if _, err := readGPT(image(t, "good")[:900<<10]); err != nil {
		t.Logf("cut short: %v", err)
	} else {
		t.Error("a disk that ends before its usable sectors was accepted")
	}
}

// Every field of the header that places something is checked, although the checksums
// are right.
func TestReadGPTRefusesHeadersThatLieWithGoodChecksums(t *testing.T) {
	le := binary.LittleEndian
	tests := []struct {
		name string
		lie  func(header, entries []byte)
		want string
	}{
		{"revision", func(h, _ []byte) { le.PutUint32(h[8:], 0x20000) }, "revision"},
		{"length 0", func(h, _ []byte) { le.PutUint32(h[12:], 0) }, "length"},
		{"length 4 GiB", func(h, _ []byte) { le.PutUint32(h[12:], 1<<32-1) }, "length"},
		{"place", func(h, _ []byte) { le.PutUint64(h[24:], 7) }, "place"},
		{"usable beyond the disk", func(h, _ []byte) { le.PutUint64(h[48:], 1<<63) }, "usable"},
		{"no entries", func(h, _ []byte) { le.PutUint32(h[80:], 0) }, "entries"},
		{"4 billion entries", func(h, _ []byte) { le.PutUint32(h[80:], 1<<32-1) }, "entries"},
		{"entries of 0 bytes", func(h, _ []byte) { le.PutUint32(h[84:], 0) }, "power of two"},
		{"entries of 192 bytes", func(h, _ []byte) { le.PutUint32(h[84:], 192) }, "power of two"},
		{"entries over the header", func(h, _ []byte) { le.PutUint64(h[72:], 1) }, "within the disk"},
		{"entries beyond the disk", func(h, _ []byte) { le.PutUint64(h[72:], 1<<63) }, "within the disk"},
		{"entry ends before it starts", func(_, e []byte) { le.PutUint64(e[40:], 63) }, "entry 1"},
		{"entry starts before the usable sectors", func(_, e []byte) { le.PutUint64(e[32:], 2) }, "entry 1"},
		{"entry ends beyond the usable sectors", func(_, e []byte) { le.PutUint64(e[40:], 1<<63) }, "entry 1"},
		{"entries overlap", func(_, e []byte) { le.PutUint64(e[40:], 100) }, "overlap"},
	}
	for _, tt := range tests {
		b := image(t, "good")
		clear(b[len(b)-512:]) // no backup
		h, e := b[512:1024], b[1024:1024+128*128]
		tt.lie(h, e)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(e))
		clear(h[16:20])
		n := min(le.Uint32(h[12:]), 512)
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
		if _, err := readGPT(b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error about %q", tt.name, err, tt.want)
		}
	}
}

func FuzzGPT(f *testing.F) {
	for _, name := range []string{"good", "primary-header-damaged", "mbr-over-gpt"} {
		b := image(f, name)
		f.Add(b[:64<<10], uint32(len(b)), true)
		f.Add(b[len(b)-20<<10:], uint32(len(b)), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint32, fix bool) {
		if fix && len(b) >= 1024 { // let mutations past the checksums
			h := b[512:1024]
			n, size := uint64(binary.LittleEndian.Uint32(h[80:])), uint64(binary.LittleEndian.Uint32(h[84:]))
			if n*size <= uint64(len(b)-1024) {
				binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(b[1024:1024+n*size]))
			}
			if l := binary.LittleEndian.Uint32(h[12:]); l <= 512 {
				clear(h[16:20])
				binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:l]))
			}
		}
		for _, sector := range []int64{512, 4096} {
			parts, err := ReadGPT(bytes.NewReader(b), int64(size), sector)
			if err != nil && parts != nil {
				t.Fatalf("got partitions with the error %v", err)
			}
			for _, p := range parts {
				if p.Start < sector || p.Size < sector || p.Size > int64(size)-p.Start {
					t.Fatalf("partition outside of a disk of %d bytes: %+v", size, p)
				}
			}
		}
	})
}

// A table may not say that what it lies in is a partition's.
func TestUsableSectorsBeginBehindTheHeader(t *testing.T) {
	b := image(t, "good")
	whole := int64(len(b))
	b = b[:64<<10] // without the backup
	h := b[512:1024]
	for first, ok := range map[uint64]bool{0: false, 1: false, 34: true} {
		binary.LittleEndian.PutUint64(h[40:], first)
		clear(h[16:20])
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		if _, err := ReadGPT(bytes.NewReader(b), whole, 512); (err == nil) != ok {
			t.Errorf("first usable sector %d: got %v, want it to be read: %t", first, err, ok)
		}
	}
}
