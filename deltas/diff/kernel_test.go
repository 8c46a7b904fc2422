package diff

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/twinkeel/twinkeel/deltas/predict"
)

// btf is a section with an integer, a pointer, a structure with two members, and a
// function of one parameter; names and types have numbers from by on.
func btf(by uint32) []byte {
	types := words(
		by, 1<<24, 4, 32,
		0, 2<<24, by+1,
		by+9, 4<<24|2, 16, by+15, by+1, 0, by+20, by+2, 64,
		0, 13<<24|1, by+1, by+30, by+2,
		by+40, 12<<24|1, by+4)
	return append(append(words(0x0001eb9f, 24, 0, uint32(len(types)), uint32(len(types)), 8), types...), "\000strings"...)
}

func TestTypesWithOtherNumbersAreAlike(t *testing.T) {
	var normal [2][]byte
	for i, by := range []uint32{100, 70000} {
		b := program(elf.EM_X86_64, section{".BTF", elf.SHT_PROGBITS, 0, 0, btf(by)})
		areas, err := imageOf(b).areas([]int64{0})
		if err != nil || len(areas) != 1 || areas[0].kind != types {
			t.Fatalf("got %v (%v)", areas, err)
		}
		normalize(b, 0, areas)
		normal[i] = b
	}
	if !bytes.Equal(normal[0], normal[1]) {
		t.Errorf("got % x and % x", normal[0], normal[1])
	}
	if bytes.Equal(normal[0][88:], make([]byte, len(normal[0])-88)) {
		t.Error("nothing is left")
	}
}

func TestTypesAreFoundFromTheMiddleOn(t *testing.T) {
	whole := bytes.Repeat(words(5, 4<<24|1, 16, 7, 9, 64), 20)
	half := bytes.Clone(whole[20:])
	blankTypes(whole)
	blankTypes(half)
	if !bytes.Equal(half[24:], whole[44:]) {
		t.Error("got other bytes")
	}
}

func TestPlacesBehindTheKernelAreSorted(t *testing.T) {
	kernel := program(elf.EM_X86_64)
	start := int64(len(kernel))
	for i := range uint32(3 * sortedStep / 4) {
		kernel = append(kernel, words(0x81000000+8*i)...)
	}
	end := int64(len(kernel))
	kernel = append(kernel, make([]byte, 2*sortedStep)...)
	areas, err := imageOf(kernel).areas([]int64{0})
	if want := (area{span{start, end}, predict.Rows4, distances}); err != nil || len(areas) != 1 || areas[0] != want {
		t.Errorf("got %v (%v), want %v", areas, err, want)
	}
}

func FuzzTypes(f *testing.F) {
	f.Add(btf(3)[24:])
	f.Add(words(0, 19<<24|0xffff, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		blank := bytes.Clone(b)
		blankTypes(blank)
		for i, c := range blank {
			if c != 0 && c != b[i] {
				t.Errorf("byte %d: got %#x, want %#x or 0", i, c, b[i])
			}
		}
	})
}
