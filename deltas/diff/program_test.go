package diff

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/deltas/predict"
)

func words(list ...uint32) (b []byte) {
	for _, w := range list {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// program is an ELF file with the given sections.
type section struct {
	name string
	kind elf.SectionType
	flag elf.SectionFlag
	row  uint64
	data []byte
}

func program(machine elf.Machine, sections ...section) []byte {
	names := []byte{0}
	var data, headers bytes.Buffer
	write := func(s elf.Section64) { _ = binary.Write(&headers, binary.LittleEndian, s) }
	write(elf.Section64{})
	for _, s := range append(sections, section{name: ".shstrtab", kind: elf.SHT_STRTAB}) {
		name := len(names)
		names = append(append(names, s.name...), 0)
		if s.kind == elf.SHT_STRTAB {
			s.data = names
		}
		write(elf.Section64{Name: uint32(name), Type: uint32(s.kind), Flags: uint64(s.flag), Off: uint64(64 + data.Len()), Size: uint64(len(s.data)), Entsize: s.row})
		data.Write(s.data)
	}
	var out bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(machine), Ehsize: 64, Shentsize: sectionHeader,
		Shoff: uint64(64 + data.Len()), Shnum: uint16(len(sections) + 2), Shstrndx: uint16(len(sections) + 1),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[4], h.Ident[5] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	_ = binary.Write(&out, binary.LittleEndian, h)
	out.Write(data.Bytes())
	out.Write(headers.Bytes())
	return out.Bytes()
}

func imageOf(b []byte) image {
	return image{deltas.Pad(bytes.NewReader(b), int64(len(b))), deltas.PaddedSize(int64(len(b))), nil}
}

// pclntab is Go's, with two functions.
func pclntab(by uint32) []byte {
	b := append(words(0xfffffff1, 0x08010000, 2, 0), make([]byte, 48)...)
	b = append(b, words(80, 0, 0, 0)...)
	return append(b, words(0, 16, by, 88, 1, 2, 3)...)
}

// Two builds, of which one is by some bytes longer in front of everything, are alike once
// normalized.
func TestTablesThatOnlyMovedAreAlike(t *testing.T) {
	const bl, adrp, add = 0x94000000, 0x90000000, 0x91000000
	build := func(by uint32, machine elf.Machine) []byte {
		x86 := append([]byte{0x55, 0xe8}, words(100+by)...)
		arm := words(bl|100+by, adrp|by<<5|1, add|(by&0xfff)<<10|1<<5|2)
		code := x86
		if machine == elf.EM_AARCH64 {
			code = arm
		}
		for len(code)%8 != 0 {
			code = append(code, 0x90)
		}
		return program(machine,
			section{".text", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, 0, code},
			section{".rela.dyn", elf.SHT_RELA, elf.SHF_ALLOC, 24, words(0, 0, 8, 0, 0, 0, 900+by, 0, 8, 0, 700+by, 0, 908+by, 0, 8, 0, 750+by, 0, 940+by, 0, 6, 3, 0xfffffffc, 0xffffffff)},
			section{".symtab", elf.SHT_SYMTAB, 0, 24, words(5+by, 18, 4000+by, 0, 77, 0)},
			section{".eh_frame", elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, words(12, 0, 1, 2, 16, 20+by, 500+by, 77, 0, 0)},
			section{".eh_frame_hdr", elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, words(1, 2, 3, 0, 0, 100+by, 200+by, 150+by, 220+by)})
	}
	for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
		var normal [2][]byte
		for i, by := range []uint32{0, 0x120} {
			b := build(by, machine)
			areas, err := imageOf(b).areas([]int64{0})
			if err != nil || len(areas) != 5 {
				t.Fatalf("got %d areas, want 5 (%v)", len(areas), err)
			}
			normalize(b, 0, areas)
			normal[i] = b
		}
		// The rows of a table are as far from the first, which has none before it.
		for i := range normal[0] {
			if a, b := normal[0][i], normal[1][i]; a != b && !first(normal[0], i) {
				t.Errorf("%v: byte %d: got %#x and %#x", machine, i, a, b)
			}
		}
	}
}

// first reports whether byte i is one that only tells how far the second row of a table is
// from a first row of zeros.
func first(b []byte, i int) bool {
	for _, value := range [][]byte{words(900), words(700), words(100), words(200)} {
		at := bytes.Index(b, value)
		if at >= 0 && i >= at && i < at+4 {
			return true
		}
	}
	return false
}

func TestGoTableIsFoundInItsSection(t *testing.T) {
	b := program(elf.EM_X86_64, section{".gopclntab", elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, pclntab(8)})
	areas, err := imageOf(b).areas([]int64{0})
	if err != nil {
		t.Fatal(err)
	}
	want := []area{{span{64 + 80, 64 + 96}, predict.Rows8, pairs}, {span{64 + 96, 64 + 108}, predict.GoFuncs, goFuncs}}
	if len(areas) != 2 || areas[0] != want[0] || areas[1] != want[1] {
		t.Errorf("got %v, want %v", areas, want)
	}
}

func TestHalfOfATableIsNormalizedAsTheWhole(t *testing.T) {
	b := program(elf.EM_X86_64, section{".symtab", elf.SHT_SYMTAB, 0, 24, bytes.Repeat(words(5, 18, 4000, 0, 77, 0), 10)})
	areas, err := imageOf(b).areas([]int64{0})
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b)
	normalize(whole, 0, areas)
	half := bytes.Clone(b[64+24*3:])
	normalize(half, 64+24*3, areas)
	if !bytes.Equal(half, whole[64+24*3:]) {
		t.Error("got other bytes")
	}
}

// What a program says of itself is not believed.
func FuzzAreas(f *testing.F) {
	f.Add(program(elf.EM_X86_64, section{".gopclntab", elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, pclntab(8)}), uint16(64))
	f.Add(program(elf.EM_AARCH64,
		section{".text", elf.SHT_PROGBITS, elf.SHF_EXECINSTR, 0, words(0x94000001)},
		section{".rela.dyn", elf.SHT_RELA, 0, 24, make([]byte, 100)},
		section{".symtab", elf.SHT_SYMTAB, 0, 24, make([]byte, 100)},
		section{".eh_frame", elf.SHT_PROGBITS, 0, 0, words(12, 0, 1, 2, 16, 20, 500, 77, 0, 0)},
		section{".eh_frame_hdr", elf.SHT_PROGBITS, 0, 0, make([]byte, 60)}), uint16(100))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		areas, err := imageOf(b).areas([]int64{0, 4096})
		if err != nil {
			return
		}
		end := int64(0)
		for _, a := range areas {
			if a.start < end || a.end < a.start || a.end > deltas.PaddedSize(int64(len(b))) {
				t.Fatalf("area %v behind %d, of %d bytes", a, end, len(b))
			}
			end = a.end
		}
		at := min(int(cut), len(b))
		normalize(b[:at], 0, areas)
		normalize(b[at:], int64(at), areas)
	})
}
