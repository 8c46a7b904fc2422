package diff

import "encoding/binary"

// typeForm is how a kind of BTF's types goes on behind its 12 bytes.
type typeForm struct {
	refers bool // whether the third word is a type
	extra  int  // bytes that follow,
	item   int  // and bytes of each item
	names  []int
}

// typeForms are by kind, from 1 on; names are where items (or what follows, if there are
// none) have names and types, which are numbers that change when others are added.
var typeForms = [...]typeForm{
	1:  {extra: 4},
	2:  {refers: true},
	3:  {extra: 12, names: []int{0, 4}},
	4:  {item: 12, names: []int{0, 4}},
	5:  {item: 12, names: []int{0, 4}},
	6:  {item: 8, names: []int{0}},
	7:  {},
	8:  {refers: true},
	9:  {refers: true},
	10: {refers: true},
	11: {refers: true},
	12: {refers: true},
	13: {refers: true, item: 8, names: []int{0, 4}},
	14: {refers: true, extra: 4},
	15: {item: 12, names: []int{0, 4}},
	16: {},
	17: {refers: true, extra: 4},
	18: {refers: true},
	19: {item: 12, names: []int{0}},
}

// typeRun is how many types must follow each other for the first to be believed.
const typeRun = 4

// typeLength returns the length of the type that b begins with, or 0 if none does.
func typeLength(b []byte) int {
	if len(b) < 12 {
		return 0
	}
	info := binary.LittleEndian.Uint32(b[4:])
	kind := int(info >> 24 & 0x1f)
	if info&0x60ff0000 != 0 || kind == 0 || kind >= len(typeForms) {
		return 0
	}
	f := typeForms[kind]
	return 12 + f.extra + f.item*int(info&0xffff)
}

// blankTypes blanks, in types of BTF, the numbers of names and of other types.
func blankTypes(b []byte) {
	for at := 0; at+12 <= len(b); {
		run, end := 0, at
		for ; run < typeRun && end < len(b); run++ {
			n := typeLength(b[end:])
			if n == 0 {
				break
			}
			end += n
		}
		if run < typeRun && end < len(b) {
			at += 4
			continue
		}
		for n := typeLength(b[at:]); n > 0; n = typeLength(b[at:]) {
			blankType(b[at:min(at+n, len(b))])
			if at += n; at >= len(b) {
				return
			}
		}
	}
}

// blankType blanks one, which may be cut.
func blankType(b []byte) {
	form := typeForms[b[7]&0x1f]
	clear(b[:4])
	if form.refers {
		clear(b[8:12])
	}
	for at := 12; at < len(b) && len(form.names) > 0; at += max(form.item, form.extra) {
		for _, name := range form.names {
			if at+name+4 <= len(b) {
				clear(b[at+name : at+name+4])
			}
		}
	}
}
