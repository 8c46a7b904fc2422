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

// area is a range of an image that a program says the meaning of.
type area struct {
	span
	mode predict.Mode // what predicts it, as a rule
	kind kind
}

// kind says what of an area changes when code moves.
type kind byte

const (
	codeX86 kind = iota
	codeARM64
	relocations // rows of 24 bytes, sorted by place
	symbols     // rows of 24 bytes: name, and an address in the second 8 bytes
	pairs       // rows of two sorted numbers of 4 bytes
	frames      // .eh_frame
	goFuncs     // records of Go's pclntab
	addresses   // of 8 bytes
	distances   // sorted, of 4 bytes
	types       // of BTF
)

const (
	sectionHeader = 64 // bytes, ELF of 64 bits
	maxSections   = 4096
	maxNames      = 1 << 16 // bytes
)

// startsProgram reports whether a block is the first of a 64-bit ELF file.
func startsProgram(b []byte) bool {
	return len(b) > 20 && string(b[:4]) == elf.ELFMAG && b[4] == byte(elf.ELFCLASS64) && b[5] == byte(elf.ELFDATA2LSB)
}

// areas returns, sorted, what programs that start at the given offsets say of the image.
// A file that is not in one piece gives wrong areas, which do no harm but that fewer
// matches are found. Nothing in a file is believed beyond that.
func (i image) areas(programs []int64) ([]area, error) {
	var list []area
	for _, at := range programs {
		l, err := i.areasOf(at)
		if err != nil {
			return nil, err
		}
		list = append(list, l...)
	}
	return sorted(list), nil
}

// sorted sorts areas and drops those that lie over others.
func sorted(list []area) []area {
	slices.SortFunc(list, func(a, b area) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.kind, b.kind))
	})
	end := int64(0)
	return slices.DeleteFunc(list, func(a area) bool {
		over := a.start < end
		end = max(end, a.end)
		return over
	})
}

// part reads n bytes at the offset at of a program, or nothing if they are not there.
func (i image) part(program int64, at, n uint64) ([]byte, error) {
	if left := uint64(i.size - program); at > left || n > left-at {
		return nil, nil
	}
	b := make([]byte, n)
	return b, i.read(b, program+int64(at))
}

// areasOf returns the areas of the program that begins at the offset at.
func (i image) areasOf(at int64) (list []area, err error) {
	b, err := i.part(at, 0, 64)
	if err != nil || b == nil {
		return nil, err
	}
	var h elf.Header64
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &h); err != nil || h.Shentsize != sectionHeader || h.Shnum > maxSections || h.Shstrndx >= h.Shnum {
		return nil, nil
	}
	b, err = i.part(at, h.Shoff, uint64(h.Shnum)*sectionHeader)
	if err != nil || b == nil {
		return nil, err
	}
	sections := make([]elf.Section64, h.Shnum)
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, sections); err != nil {
		return nil, nil
	}
	n := sections[h.Shstrndx]
	names, err := i.part(at, n.Off, min(n.Size, maxNames))
	if err != nil {
		return nil, err
	}
	for _, s := range sections {
		left := uint64(i.size - at)
		if elf.SectionType(s.Type) == elf.SHT_NOBITS || s.Off >= left || s.Size > left-s.Off {
			continue
		}
		a := area{span: span{at + int64(s.Off), at + int64(s.Off+s.Size)}}
		if a.classify(&h, &s, nameIn(names, s.Name)) {
			list = append(list, a)
			continue
		}
		var inside []area
		switch nameIn(names, s.Name) {
		case ".gopclntab":
			inside, err = i.pclntab(a.span)
		case ".BTF":
			inside, err = i.typesOf(a.span)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, inside...)
	}
	behind, err := i.sortedBehind(at, &h, sections)
	return append(list, behind...), err
}

func nameIn(names []byte, at uint32) string {
	if uint64(at) >= uint64(len(names)) {
		return ""
	}
	name, _, _ := bytes.Cut(names[at:], []byte{0})
	return string(name)
}

// classify sets what a is, and reports whether it is anything.
func (a *area) classify(h *elf.Header64, s *elf.Section64, name string) bool {
	linked := elf.Type(h.Type) != elf.ET_REL
	executable := elf.SectionFlag(s.Flags)&elf.SHF_EXECINSTR != 0
	switch t := elf.SectionType(s.Type); {
	case executable && linked && elf.Machine(h.Machine) == elf.EM_X86_64:
		a.kind, a.mode = codeX86, predict.X86
	case executable && linked && elf.Machine(h.Machine) == elf.EM_AARCH64:
		a.kind, a.mode = codeARM64, predict.ARM64
	case t == elf.SHT_RELA && s.Entsize == 24:
		a.kind, a.mode = relocations, predict.Rows24
	case (t == elf.SHT_SYMTAB || t == elf.SHT_DYNSYM) && s.Entsize == 24:
		a.kind, a.mode = symbols, predict.Rows24
	case name == ".eh_frame" && linked:
		a.kind, a.mode = frames, predict.Frames
	case name == ".eh_frame_hdr" && a.end-a.start > 12:
		a.kind, a.mode = pairs, predict.Rows8
		a.start += 12
	case name == ".orc_unwind_ip" && linked:
		a.kind, a.mode = distances, predict.Rows4
	case name == ".data.rel.ro" || name == ".init_array":
		a.kind, a.mode = addresses, predict.Rows8
	default:
		return false
	}
	return true
}

// pclntab returns the areas of Go's table of functions (runtime.pcHeader, since Go 1.20).
func (i image) pclntab(s span) ([]area, error) {
	const header, magic = 72, 0xfffffff1
	b, err := i.part(s.start, 0, header)
	if err != nil || b == nil || s.end-s.start < header || binary.LittleEndian.Uint32(b) != magic || b[7] != 8 {
		return nil, err
	}
	n, at := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[64:])
	if size := uint64(s.end - s.start); at > size || n > (size-at)/8 {
		return nil, nil
	}
	middle := s.start + int64(at+8*n)
	return []area{
		{span{s.start + int64(at), middle}, predict.Rows8, pairs},
		{span{middle, s.end}, predict.GoFuncs, goFuncs},
	}, nil
}

// typesOf returns the area of the types in a section of BTF (the kernel's
// Documentation/bpf/btf.rst).
func (i image) typesOf(s span) ([]area, error) {
	const header, magic = 24, 0xeb9f
	b, err := i.part(s.start, 0, header)
	if err != nil || b == nil || s.end-s.start < header || binary.LittleEndian.Uint16(b) != magic {
		return nil, err
	}
	le := binary.LittleEndian
	at, n := uint64(le.Uint32(b[4:]))+uint64(le.Uint32(b[8:])), uint64(le.Uint32(b[12:]))
	if size := uint64(s.end - s.start); at > size || n > size-at {
		return nil, nil
	}
	start := s.start + int64(at)
	return []area{{span{start, start + int64(n)}, predict.Rows4, types}}, nil
}
