package predict

import "encoding/binary"

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

const (
	// maxDistance is how far code is believed to refer, in bytes.
	maxDistance = 1 << 28
	minAddress  = 1 << 12
	maxAddress  = 1 << 48
	minOffset   = 16
)

// code finds the fields of x86-64 code.
func (p *Predictor) code(old, new int64, b []byte, n, from int) {
	for at := from; at < n; {
		f := Reference(b, at)
		if f == 0 {
			at++
			continue
		}
		at += f
		distance := int64(int32(le32(b[at:])))
		key := old + int64(at) + 4 + distance
		if distance < -maxDistance || distance > maxDistance || key < 0 {
			continue
		}
		base := new + int64(at) + 4
		shift := p.moved(old+int64(at), key)
		p.fields = append(p.fields, field{at: at, size: 4, base: base, key: key, space: codes, guess: uint64(key + shift - base)})
		at += 4
	}
}

// Reference returns how far behind b[at] a field of 32 bits is that the instruction at
// b[at] refers by, or 0 if there is none, or not all of it is in b.
func Reference(b []byte, at int) int {
	if at+5 > len(b) {
		return 0
	}
	n := 0
	switch c := b[at]; {
	case c == 0xe8 || c == 0xe9: // CALL, JMP
		n = 1
	case c == 0x0f && b[at+1]&0xf0 == 0x80: // Jcc
		n = 2
	case c == 0x0f && b[at+2]&0xc7 == 0x05, c == 0xc5 && b[at+3]&0xc7 == 0x05: // two bytes of opcode; VEX
		n = 3
		if c == 0xc5 {
			n = 4
		}
	case c == 0xc4 && b[at+4]&0xc7 == 0x05: // VEX of three bytes
		n = 5
	case operand[c>>5]>>(c&31)&1 != 0 && b[at+1]&0xc7 == 0x05:
		n = 2
	}
	if at+n+4 > len(b) {
		return 0
	}
	return n
}

// operand has a bit for each opcode of one byte with an operand that may be relative to
// the instruction (Intel's manual, volume 2, table A-2).
var operand = [8]uint32{
	0x0f0f0f0f, // ADD OR ADC SBB
	0x0f0f0f0f, // AND SUB XOR CMP
	0x00000000,
	0x00000a08, // MOVSXD IMUL
	0x0000affb, // arithmetic with a constant, TEST XCHG MOV LEA POP
	0x00000000,
	0xff0f00c3, // shifts, MOV, x87
	0xc0c00000, // TEST NOT NEG MUL DIV, INC DEC CALL JMP PUSH
}

// aligned looks at every number of size bytes that stands at a multiple of its size in
// the base.
func (p *Predictor) aligned(old, new int64, b []byte, n, from, size int, look func(f *field, old, new int64, b []byte) bool) {
	at := int(-old & int64(size-1))
	for at < from {
		at += size
	}
	for ; at < n && at+size <= len(b); at += size {
		f := field{at: at, size: size}
		if look(&f, old+int64(at), new+int64(at), b[at:]) {
			p.fields = append(p.fields, f)
		}
	}
}

func (p *Predictor) address(f *field, _, _ int64, b []byte) bool {
	v := le64(b)
	if v < minAddress || v >= maxAddress {
		return false
	}
	f.key, f.space = int64(v), addresses
	f.guess = uint64(f.key + p.shifts.find(addresses, f.key))
	return true
}

func (p *Predictor) relative(f *field, old, new int64, b []byte) bool {
	distance := int64(int32(le32(b)))
	f.key, f.space, f.base = old+distance, codes, new
	if distance == 0 || distance < -maxDistance || distance > maxDistance || f.key < 0 {
		return false
	}
	f.guess = uint64(f.key + p.moved(old, f.key) - new)
	return true
}

func (p *Predictor) offset(f *field, _, _ int64, b []byte) bool {
	v := le32(b)
	if v < minOffset {
		return false
	}
	f.key, f.space = int64(v), offsets
	f.guess = uint64(f.key + p.shifts.find(offsets, f.key))
	return true
}

func (p *Predictor) series(f *field, old, _ int64, b []byte) bool {
	f.key, f.space, f.lane = int64(le32(b)), lanes, int(old>>2&1)
	f.guess = uint64(f.key + p.lanes[f.lane])
	return true
}
