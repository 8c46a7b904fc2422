package diff

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/twinkeel/twinkeel/deltas/predict"
)

// normalize makes alike what differs only because code moved. b is what is at the offset
// at of the image; areas are of that, sorted and apart.
func normalize(b []byte, at int64, areas []area) {
	i, _ := slices.BinarySearchFunc(areas, at, func(a area, at int64) int { return cmp.Compare(a.end, at) })
	for ; i < len(areas) && areas[i].start < at+int64(len(b)); i++ {
		a := areas[i]
		from, to := max(a.start-at, 0), min(a.end-at, int64(len(b)))
		if from >= to {
			continue
		}
		part := b[from:to]
		behind := at + from - a.start // how much of the area is before part
		switch a.kind {
		case codeX86:
			blankX86(part)
		case codeARM64:
			blankARM64(part[min(-behind&3, int64(len(part))):])
		case relocations:
			relocationRows(part[min((24-behind%24)%24, int64(len(part))):])
		case symbols:
			symbolRows(part[min((24-behind%24)%24, int64(len(part))):])
		case pairs:
			differences(part[min(-behind&7, int64(len(part))):], 8, 0, 4)
		case distances:
			differences(part[min(-behind&3, int64(len(part))):], 4, 0)
		case types:
			blankTypes(part[min(-behind&3, int64(len(part))):])
		case frames:
			blankFrames(part[min(-behind&3, int64(len(part))):])
		}
	}
}

func blankX86(text []byte) {
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

func blankARM64(text []byte) {
	var far [32]int
	for i := 0; i+4 <= len(text); i += 4 {
		w := binary.LittleEndian.Uint32(text[i:])
		binary.LittleEndian.PutUint32(text[i:], predict.Normal(w, &far, i/4+1))
	}
}

// differences replaces numbers of 4 bytes, at the given columns of rows of size bytes, by
// what they are more than those of the row before.
func differences(b []byte, size int, columns ...int) {
	for at := len(b)/size*size - size; at > 0; at -= size {
		for _, c := range columns {
			here, above := b[at+c:], b[at+c-size:]
			binary.LittleEndian.PutUint32(here, binary.LittleEndian.Uint32(here)-binary.LittleEndian.Uint32(above))
		}
	}
}

// relocationRows leaves of places, and of addends of relocations of one kind, how far
// they are from the ones before.
func relocationRows(b []byte) {
	le := binary.LittleEndian
	for at := len(b)/24*24 - 24; at > 0; at -= 24 {
		row, above := b[at:], b[at-24:]
		le.PutUint32(row, le.Uint32(row)-le.Uint32(above))
		switch {
		case le.Uint64(row[8:]) == le.Uint64(above[8:]):
			le.PutUint32(row[16:], le.Uint32(row[16:])-le.Uint32(above[16:]))
		case le.Uint64(row[16:])+smallAddend > 2*smallAddend:
			le.PutUint32(row[16:], 0)
		}
	}
}

// smallAddend is how large an addend is that does not change when code moves.
const smallAddend = 64

// symbolRows leaves neither where names nor where values are.
func symbolRows(b []byte) {
	for at := 0; at+24 <= len(b); at += 24 {
		clear(b[at : at+4])
		clear(b[at+8 : at+16])
	}
}

// blankFrames blanks the references in the records of .eh_frame.
func blankFrames(b []byte) {
	le := binary.LittleEndian
	for at := 0; at+20 <= len(b); {
		n := le.Uint32(b[at:])
		if !predict.PlausibleFrame(n) || int(le.Uint32(b[at+4:])) > 1<<26 {
			at += 4
			continue
		}
		end := at + 4 + int(n)
		if le.Uint32(b[at+4:]) != 0 {
			clear(b[at+4 : at+12])
			if at+21 <= len(b) && b[at+16] == 4 {
				clear(b[at+17 : at+21])
			}
		}
		at = end
	}
}
