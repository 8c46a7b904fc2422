package deltas

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Op is an instruction of a plan and of a payload; the numbers are part of the format.
type Op byte

const (
	// OpZero is followed by n: n zero bytes.
	OpZero Op = 0
	// OpCopy is followed by an offset and n: n bytes of the base. In a plan the offset is
	// from the start of the base, in a payload from where the last copy ended.
	OpCopy Op = 1
	// OpData is followed by n: n bytes of new data, which in a plan follow at once and in
	// a payload come from its data stream.
	OpData Op = 2
	// OpDiff, in a payload only, is followed by an offset as OpCopy's, and n: n bytes of the
	// base, changed as StreamModes and StreamDifference say.
	OpDiff Op = 3
)

// FromBase reports whether the instruction has an offset in the base.
func (o Op) FromBase() bool { return o == OpCopy || o == OpDiff }

// planBuffer is how much of a plan is read or written at once, in bytes.
const planBuffer = 64 << 10

// PlanWriter writes a plan for Execute. Plans live between two processes of one
// version; they are no format that is stored.
type PlanWriter struct {
	w    *bufio.Writer
	head [1 + 2*binary.MaxVarintLen64]byte
}

// NewPlanWriter returns a PlanWriter to w. Flush must be called at the end.
func NewPlanWriter(w io.Writer) *PlanWriter {
	return &PlanWriter{w: bufio.NewWriterSize(w, planBuffer)}
}

// Reset makes p write a new plan to w and keeps its buffer.
func (p *PlanWriter) Reset(w io.Writer) { p.w.Reset(w) }

// Zero appends n zero bytes.
func (p *PlanWriter) Zero(n int64) error {
	b := append(p.head[:0], byte(OpZero))
	_, err := p.w.Write(binary.AppendUvarint(b, uint64(n)))
	return err
}

// Copy appends n bytes of the base from offset on.
func (p *PlanWriter) Copy(offset, n int64) error {
	b := append(p.head[:0], byte(OpCopy))
	b = binary.AppendUvarint(b, uint64(offset))
	_, err := p.w.Write(binary.AppendUvarint(b, uint64(n)))
	return err
}

// Data appends data.
func (p *PlanWriter) Data(data []byte) error {
	if err := p.Begin(int64(len(data))); err != nil {
		return err
	}
	_, err := p.w.Write(data)
	return err
}

// Begin announces n bytes of data, which follow by Write.
func (p *PlanWriter) Begin(n int64) error {
	b := append(p.head[:0], byte(OpData))
	_, err := p.w.Write(binary.AppendUvarint(b, uint64(n)))
	return err
}

// Write appends bytes that Begin announced.
func (p *PlanWriter) Write(data []byte) (int, error) { return p.w.Write(data) }

// Flush writes what is buffered.
func (p *PlanWriter) Flush() error { return p.w.Flush() }

// planReader reads the instructions of a plan and bounds them.
type planReader struct {
	r    *bufio.Reader
	ops  int   // instructions read
	left int64 // bytes of the segment that are not made yet
}

// next returns an instruction that makes 1 to left bytes; copies lie within the first
// baseSize bytes of the base.
func (p *planReader) next(baseSize int64) (op Op, offset, n int64, err error) {
	if p.ops++; p.ops > MaxOps {
		return 0, 0, 0, fmt.Errorf("more than %d instructions", MaxOps)
	}
	b, err := p.r.ReadByte()
	if err != nil {
		return 0, 0, 0, unexpected(err)
	}
	var from uint64
	switch op = Op(b); op {
	case OpZero, OpData:
	case OpCopy:
		if from, err = p.uvarint(); err != nil {
			return 0, 0, 0, err
		}
		if from > uint64(baseSize) {
			return 0, 0, 0, fmt.Errorf("copy from %d: base has %d bytes", from, baseSize)
		}
	default:
		return 0, 0, 0, fmt.Errorf("instruction %d is unknown", b)
	}
	size, err := p.uvarint()
	if err != nil {
		return 0, 0, 0, err
	}
	if size == 0 || size > uint64(p.left) {
		return 0, 0, 0, fmt.Errorf("instruction of %d bytes, want 1 to %d", size, p.left)
	}
	if op == OpCopy && size > uint64(baseSize)-from {
		return 0, 0, 0, fmt.Errorf("copy of %d bytes from %d: base has %d bytes", size, from, baseSize)
	}
	p.left -= int64(size)
	return op, int64(from), int64(size), nil
}

func (p *planReader) uvarint() (uint64, error) {
	v, err := binary.ReadUvarint(p.r)
	return v, unexpected(err)
}

// end reports whether anything follows the last instruction.
func (p *planReader) end() error {
	switch _, err := p.r.ReadByte(); {
	case err == nil:
		return errors.New("plan goes on behind the end of the segment")
	case err != io.EOF:
		return err
	}
	return nil
}

// unexpected turns the end of a plan within an instruction into an error of its own.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
