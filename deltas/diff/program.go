package diff

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"slices"

	"github.com/twinkeel/twinkeel/deltas/predict"
)

// span is a range of an image, or of bytes.
type span struct {
	start, end int64
}

const (
	programHeader = 56 // bytes, ELF of 64 bits
	maxHeaders    = 64
)

// startsProgram reports whether a block is the first of a 64-bit ELF file.
func startsProgram(b []byte) bool {
	return len(b) > 20 && string(b[:4]) == elf.ELFMAG && b[4] == byte(elf.ELFCLASS64) && b[5] == byte(elf.ELFDATA2LSB)
}

// code returns the ranges of the image that programs, which start at the given offsets,
// execute. A file that is not in one piece gives wrong ranges, which do no harm but that
// fewer matches are found. Nothing in a file is believed beyond that.
func (i image) code(programs []int64) ([]span, error) {
	var list []span
	header := make([]byte, blockSize)
	for _, at := range programs {
		b := header[:min(blockSize, i.size-at)]
		if err := i.read(b, at); err != nil {
			return nil, err
		}
		list = append(list, codeOf(b, at, i.size)...)
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	return list, nil
}

// codeOf returns where the program that begins with b, at the offset at of an image of
// size bytes, has x86-64 code.
func codeOf(b []byte, at, size int64) (list []span) {
	var h elf.Header64
	if binary.Read(bytes.NewReader(b), binary.LittleEndian, &h) != nil ||
		elf.Machine(h.Machine) != elf.EM_X86_64 || h.Phentsize != programHeader {
		return nil
	}
	for n := range min(uint64(h.Phnum), maxHeaders) {
		off := h.Phoff + n*programHeader
		if h.Phoff > uint64(len(b)) || off+programHeader > uint64(len(b)) {
			break
		}
		var p elf.Prog64
		if binary.Read(bytes.NewReader(b[off:]), binary.LittleEndian, &p) != nil {
			break
		}
		left := uint64(size - at)
		if elf.ProgType(p.Type) == elf.PT_LOAD && elf.ProgFlag(p.Flags)&elf.PF_X != 0 && p.Off < left {
			list = append(list, span{at + int64(p.Off), at + int64(p.Off+min(p.Filesz, left-p.Off))})
		}
	}
	return list
}

// normalize blanks the references in code, so that code that only moved looks alike. b
// is what is at the offset at of the image; code are ranges of that, sorted.
func normalize(b []byte, at int64, code []span) {
	i, _ := slices.BinarySearchFunc(code, at, func(s span, at int64) int { return cmp.Compare(s.end, at) })
	for ; i < len(code) && code[i].start < at+int64(len(b)); i++ {
		from, to := max(code[i].start-at, 0), min(code[i].end-at, int64(len(b)))
		if from >= to {
			continue
		}
		text := b[from:to]
		for j := 0; j < len(text); {
			n := predict.Reference(text, j)
			if n == 0 {
				j++
				continue
			}
			clear(text[j+n : j+n+4])
			j += n + 4
		}
	}
}
