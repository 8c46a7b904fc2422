package diff

import (
	"debug/elf"
	"encoding/binary"

	"github.com/twinkeel/twinkeel/deltas/predict"
)

const (
	// sortedStep is how many bytes are looked at to see whether they are sorted numbers.
	sortedStep = 16 << 10
	// maxSorted is how far a program is believed to go on in them, in bytes.
	maxSorted = 16 << 20
)

// sortedBehind returns the area of sorted numbers of 4 bytes behind the last section of
// the program that begins at the offset at: the kernel has a list of places there that
// it relocates (arch/x86/tools/relocs.c).
func (i image) sortedBehind(at int64, h *elf.Header64, sections []elf.Section64) ([]area, error) {
	end := h.Shoff + uint64(h.Shnum)*sectionHeader
	for _, s := range sections {
		if left := uint64(i.size - at); elf.SectionType(s.Type) != elf.SHT_NOBITS && s.Off < left && s.Size <= left-s.Off {
			end = max(end, s.Off+s.Size)
		}
	}
	n := uint64(0)
	for n < maxSorted {
		b, err := i.part(at, end+n, sortedStep)
		if err != nil {
			return nil, err
		}
		if b == nil || !ascending(b) {
			break
		}
		n += sortedStep
	}
	if n == 0 {
		return nil, nil
	}
	start := at + int64(end)
	return []area{{span{start, start + int64(n)}, predict.Rows4, distances}}, nil
}

// ascending reports whether nearly all numbers of b are greater than the one before.
func ascending(b []byte) bool {
	count := 0
	for at := 4; at+4 <= len(b); at += 4 {
		if int32(binary.LittleEndian.Uint32(b[at:])) > int32(binary.LittleEndian.Uint32(b[at-4:])) {
			count++
		}
	}
	return count >= len(b)/4*15/16
}
