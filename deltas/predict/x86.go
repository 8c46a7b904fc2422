package predict

// x86 finds the fields of x86-64 code.
func (p *Predictor) x86(from int) {
	c := &p.piece
	for at := from; at < len(c.in); {
		f := 0
		if first[c.b[at]>>5]>>(c.b[at]&31)&1 != 0 {
			f = Reference(c.b, at)
		}
		if f == 0 {
			at++
			continue
		}
		at += f
		if at < len(c.in) {
			p.distance(at, c.old+int64(at)+4)
		}
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

// first has a bit for each byte that an instruction may begin with that Reference knows.
var first = [8]uint32{
	operand[0] | 1<<0x0f,
	operand[1],
	operand[2],
	operand[3],
	operand[4],
	operand[5],
	operand[6] | 1<<(0xc4-0xc0) | 1<<(0xc5-0xc0),
	operand[7] | 1<<(0xe8-0xe0) | 1<<(0xe9-0xe0),
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
