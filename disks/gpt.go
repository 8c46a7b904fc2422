package disks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

const (
	sector    = 512  // of most disks, and what GRUB counts in
	large     = 4096 // of some
	mib       = 1 << 20
	alignment = mib // of partitions; the first one begins there
	entrySize = 128
	entries   = 128
	tableSize = entries * entrySize
	maxName   = 36 // UTF-16 code units
)

// The types of partitions: UEFI 2.10, table 5.7; GRUB's and the Linux ones are from the
// Discoverable Partitions Specification.
const (
	typeBIOSBoot = "21686148-6449-6e6f-744e-656564454649"
	typeESP      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeLinux    = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// partition is an entry of the table, and where it lies.
type partition struct {
	label string
	kind  string
	start int64 // bytes
	size  int64 // bytes, a multiple of alignment
}

// arrange gives the partitions their places, one behind the other, and returns the size
// of the disk.
func arrange(parts []partition) int64 {
	at := int64(alignment)
	for i := range parts {
		parts[i].start = at
		at += parts[i].size
	}
	return at + alignment // the second table lies in the last sectors
}

// writeTable writes a protective MBR and both copies of the table for a disk of size
// bytes with sectors of the given size. The identifiers are made from seed, so that the same disk gets the same ones.
// Source: UEFI 2.10, chapter 5.
func writeTable(w io.WriterAt, size, sector int64, parts []partition, seed []byte) error {
	var table [tableSize]byte
	for i, p := range parts {
		name := utf16.Encode([]rune(p.label))
		if len(name) > maxName || p.start%sector != 0 || p.size <= 0 || p.start+p.size > size-alignment {
			return fmt.Errorf("partition %q: got %d bytes at %d of %d and a name of %d units", p.label, p.size, p.start, size, len(name))
		}
		e := table[i*entrySize:]
		kind, err := guid(p.kind)
		if err != nil {
			return err
		}
		copy(e, kind)
		copy(e[16:], derive(seed, p.label))
		binary.LittleEndian.PutUint64(e[32:], uint64(p.start/sector))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.start+p.size)/sector-1))
		for j, u := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	last := uint64(size/sector - 1)
	tableSectors := uint64(tableSize / sector)
	for _, c := range []struct{ mine, other, table uint64 }{{1, last, 2}, {last, 1, last - tableSectors}} {
		h := make([]byte, sector)
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		binary.LittleEndian.PutUint64(h[24:], c.mine)
		binary.LittleEndian.PutUint64(h[32:], c.other)
		binary.LittleEndian.PutUint64(h[40:], 2+tableSectors)
		binary.LittleEndian.PutUint64(h[48:], last-tableSectors-1)
		copy(h[56:], derive(seed, "disk"))
		binary.LittleEndian.PutUint64(h[72:], c.table)
		binary.LittleEndian.PutUint32(h[80:], entries)
		binary.LittleEndian.PutUint32(h[84:], entrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(table[:]))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		if _, err := w.WriteAt(table[:], int64(c.table)*sector); err != nil {
			return fmt.Errorf("partition table: %w", err)
		}
		if _, err := w.WriteAt(h, int64(c.mine)*sector); err != nil {
			return fmt.Errorf("partition table: %w", err)
		}
	}
	mbr := make([]byte, 66)
	copy(mbr, "\x00\x00\x02\x00\xee\xff\xff\xff\x01\x00\x00\x00")
	binary.LittleEndian.PutUint32(mbr[12:], uint32(min(last, 1<<32-1)))
	copy(mbr[64:], "\x55\xaa")
	if _, err := w.WriteAt(mbr, 446); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	return nil
}

// guid encodes an identifier: its first three fields are little-endian.
func guid(text string) ([]byte, error) {
	var a uint32
	var b, c uint16
	var d [8]byte
	_, err := fmt.Sscanf(text, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", &a, &b, &c, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5], &d[6], &d[7])
	if err != nil {
		return nil, fmt.Errorf("identifier %q: %w", text, err)
	}
	out := binary.LittleEndian.AppendUint32(nil, a)
	out = binary.LittleEndian.AppendUint16(out, b)
	return append(binary.LittleEndian.AppendUint16(out, c), d[:]...), nil
}

// derive makes an identifier of version 8 (RFC 9562) for a purpose.
func derive(seed []byte, purpose string) []byte {
	sum := sha256.Sum256(append(bytes.Clone(seed), "\x00"+purpose...))
	id := sum[:16]
	id[7] = id[7]&0x0f | 0x80 // the version, in the little-endian third field
	id[8] = id[8]&0x3f | 0x80
	return id
}
