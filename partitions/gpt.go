package partitions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// Partition is one entry of a GUID partition table.
type Partition struct {
	Number int    // from 1, as in /dev/sda1
	Name   string // PARTLABEL
	UUID   string // PARTUUID, lower case
	Start  int64  // bytes from the start of the disk
	Size   int64  // bytes
}

// The limits of a table that is read at all; UEFI's default is 128 entries of 128 bytes.
const (
	maxEntries   = 1024
	maxEntrySize = 4096
	maxTable     = 1 << 20
)

// ErrNoTable is in the chain of ReadGPT's error when the disk holds nothing that looks
// like a GUID partition table, as opposed to a damaged one.
var ErrNoTable = errors.New("no GUID partition table")

// ReadGPT reads the partitions of a disk of size bytes with sectors of the given size
// (512 or 4096). The format is that of UEFI 2.10, chapter 5. It takes the primary
// table, or the backup if the primary is damaged, and only one whose checksums, bounds
// and entries are all sound: a partition found wrongly is a partition destroyed.
func ReadGPT(r io.ReaderAt, size, sector int64) ([]Partition, error) {
	if sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("partition table: got sectors of %d bytes, want 512 or 4096", sector)
	}
	d := gptDisk{r: r, sectors: size / sector, sector: sector}
	if d.sectors < 3 {
		return nil, fmt.Errorf("partition table: a disk of %d bytes: %w", size, ErrNoTable)
	}
	if err := d.protective(); err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	parts, err := d.table(1)
	if err == nil {
		return parts, nil
	}
	backup, err2 := d.table(d.sectors - 1)
	if err2 == nil {
		return backup, nil
	}
	return nil, fmt.Errorf("partition table: primary: %w; backup: %w", err, err2)
}

// gptDisk is a disk whose table is being read.
type gptDisk struct {
	r       io.ReaderAt
	sectors int64
	sector  int64
}

// read returns n bytes from sector lba on.
func (d gptDisk) read(lba, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := d.r.ReadAt(b, lba*d.sector); err != nil {
		return nil, fmt.Errorf("sector %d: %w", lba, err)
	}
	return b, nil
}

// protective checks the protective master boot record. A disk that was given an MBR
// table later still holds the old GUID table, which then means nothing.
func (d gptDisk) protective() error {
	b, err := d.read(0, d.sector)
	if err != nil {
		return err
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return fmt.Errorf("no boot record: %w", ErrNoTable)
	}
	for i := range 4 {
		if b[446+16*i+4] == 0xee {
			return nil
		}
	}
	return fmt.Errorf("boot record is not a protective one: %w", ErrNoTable)
}

// gptHeader is the part of a header that says where the entries are.
type gptHeader struct {
	firstUsable, lastUsable int64
	entriesLBA              int64
	entries, entrySize      int64
	entriesCRC              uint32
}

// table reads the header in sector lba and the entries it points to.
func (d gptDisk) table(lba int64) ([]Partition, error) {
	b, err := d.read(lba, d.sector)
	if err != nil {
		return nil, err
	}
	h, err := d.header(b, lba)
	if err != nil {
		return nil, err
	}
	entries, err := d.read(h.entriesLBA, h.entries*h.entrySize)
	if err != nil {
		return nil, err
	}
	if crc := crc32.ChecksumIEEE(entries); crc != h.entriesCRC {
		return nil, fmt.Errorf("entries: got checksum %08x, want %08x", crc, h.entriesCRC)
	}
	var parts []Partition
	for i := range int(h.entries) {
		p, ok, err := d.entry(entries[int64(i)*h.entrySize:][:h.entrySize], i+1, h)
		if err != nil {
			return nil, err
		}
		if ok {
			parts = append(parts, p)
		}
	}
	return parts, noOverlap(parts)
}

// header checks the header b that was read from sector lba.
func (d gptDisk) header(b []byte, lba int64) (gptHeader, error) {
	le := binary.LittleEndian
	if string(b[:8]) != "EFI PART" {
		return gptHeader{}, fmt.Errorf("header: no signature: %w", ErrNoTable)
	}
	if rev := le.Uint32(b[8:]); rev != 0x00010000 {
		return gptHeader{}, fmt.Errorf("header: got revision %08x, want 00010000", rev)
	}
	size := int64(le.Uint32(b[12:]))
	if size < 92 || size > d.sector {
		return gptHeader{}, fmt.Errorf("header: got a length of %d bytes, want 92 to %d", size, d.sector)
	}
	summed := bytes.Clone(b[:size])
	clear(summed[16:20])
	if got, want := crc32.ChecksumIEEE(summed), le.Uint32(b[16:]); got != want {
		return gptHeader{}, fmt.Errorf("header: got checksum %08x, want %08x", got, want)
	}
	// Every sector number is compared as uint64 before it becomes an int64.
	last := uint64(d.sectors) - 1
	self, first, end, at := le.Uint64(b[24:]), le.Uint64(b[40:]), le.Uint64(b[48:]), le.Uint64(b[72:])
	count, entrySize := uint64(le.Uint32(b[80:])), uint64(le.Uint32(b[84:]))
	switch {
	case self != uint64(lba):
		return gptHeader{}, fmt.Errorf("header: got its place as sector %d, want %d", self, lba)
	case first < 2 || first > end || end > last: // sectors 0 and 1 are the MBR and the header
		return gptHeader{}, fmt.Errorf("header: usable sectors %d to %d of a disk that ends at %d", first, end, last)
	case count < 1 || count > maxEntries:
		return gptHeader{}, fmt.Errorf("header: got %d entries, want 1 to %d", count, maxEntries)
	case entrySize < 128 || entrySize > maxEntrySize || entrySize&(entrySize-1) != 0:
		return gptHeader{}, fmt.Errorf("header: got entries of %d bytes, want a power of two from 128 to %d", entrySize, maxEntrySize)
	case count*entrySize > maxTable:
		return gptHeader{}, fmt.Errorf("header: got a table of %d bytes, want at most %d", count*entrySize, maxTable)
	case at < 2 || at > last || (last-at+1)*uint64(d.sector) < count*entrySize:
		return gptHeader{}, fmt.Errorf("header: entries at sector %d do not lie within the disk", at)
	}
	return gptHeader{int64(first), int64(end), int64(at), int64(count), int64(entrySize), le.Uint32(b[88:])}, nil
}

// entry reads one entry; ok is false if it is unused.
func (d gptDisk) entry(b []byte, number int, h gptHeader) (p Partition, ok bool, err error) {
	if bytes.Equal(b[:16], make([]byte, 16)) {
		return Partition{}, false, nil
	}
	le := binary.LittleEndian
	first, last := le.Uint64(b[32:]), le.Uint64(b[40:])
	if first > last || first < uint64(h.firstUsable) || last > uint64(h.lastUsable) {
		return Partition{}, false, fmt.Errorf("entry %d: sectors %d to %d, want within %d to %d",
			number, first, last, h.firstUsable, h.lastUsable)
	}
	name := make([]uint16, 0, 36)
	for i := 56; i < 128; i += 2 {
		u := le.Uint16(b[i:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	return Partition{
		Number: number,
		Name:   string(utf16.Decode(name)),
		UUID:   guid(b[16:32]),
		Start:  int64(first) * d.sector,
		Size:   int64(last-first+1) * d.sector,
	}, true, nil
}

// guid writes a GUID the way the kernel and udev do: the first three groups are stored
// little-endian.
func guid(b []byte) string {
	le, be := binary.LittleEndian, binary.BigEndian
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x",
		le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), be.Uint16(b[8:]), b[10:16])
}

// noOverlap refuses tables in which two partitions share a sector.
func noOverlap(parts []Partition) error {
	for i, p := range parts {
		for _, q := range parts[:i] {
			if p.Start < q.Start+q.Size && q.Start < p.Start+p.Size {
				return fmt.Errorf("entries %d and %d overlap", q.Number, p.Number)
			}
		}
	}
	return nil
}

// matches reports whether the partition has the given label or UUID.
func (p Partition) matches(key, value string) bool {
	if key == "PARTLABEL" {
		return p.Name == value
	}
	return strings.EqualFold(p.UUID, value)
}
