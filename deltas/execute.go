package deltas

import (
	"bufio"
	"fmt"
	"io"
	"unsafe"

	"github.com/twinkeel/twinkeel/internal/verity"
)

// copyBuffer is how much of the base is read at once for a copy that is not in step
// with the blocks of base and target, in bytes.
const copyBuffer = 256 << 10

// Execute is an Executor used once.
func Execute(plan io.Reader, s Segment, base io.ReaderAt, baseSize int64, dst io.Writer) error {
	return new(Executor).Execute(plan, s, base, baseSize, dst)
}

// Executor carries out plans. The zero value is ready; one that is used again reuses
// its memory, which is about 900 KiB whatever the segment. It is not safe for
// concurrent use.
type Executor struct {
	plan   *bufio.Reader
	span   []byte // the span being made
	fill   int    // bytes of span that are made
	window []byte // of the base, for copies out of step
	start  int64  // of window, in the base
}

// Execute carries out plan and writes exactly s.Length bytes to dst, or returns an
// error. The bytes come span by span: every Write is of verity.NodeSpan bytes but for
// the last, so dst can hash and store what it is given without a buffer of its own. It
// must not keep the slice.
//
// Nothing vouches for the plan: Execute keeps within s.Length, baseSize and MaxOps
// whatever it says, and the caller compares the nodes of what was written with
// s.Target. The base is read in whole blocks; baseSize is a multiple of
// verity.BlockSize, or 0 if there is no base.
func (e *Executor) Execute(plan io.Reader, s Segment, base io.ReaderAt, baseSize int64, dst io.Writer) error {
	if s.Length <= 0 || s.Length > MaxSegment {
		return fmt.Errorf("execute plan: segment length: got %d, want 1 to %d", s.Length, MaxSegment)
	}
	e.reset(plan, int(min(verity.NodeSpan, s.Length)))
	p := planReader{r: e.plan, left: s.Length}
	for p.left > 0 {
		op, from, n, err := p.next(baseSize)
		if err == nil {
			err = e.run(op, from, n, base, baseSize, dst)
		}
		if err != nil {
			return fmt.Errorf("execute plan of segment at %d: %w", s.Offset, err)
		}
	}
	err := e.flush(dst)
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return fmt.Errorf("execute plan of segment at %d: %w", s.Offset, err)
	}
	return nil
}

func (e *Executor) reset(plan io.Reader, span int) {
	if e.plan == nil {
		e.plan = bufio.NewReaderSize(plan, planBuffer)
	} else {
		e.plan.Reset(plan)
	}
	if cap(e.span) < span {
		e.span = alignedBuffer(span)
	}
	e.span = e.span[:span]
	e.fill = 0
	e.window = e.window[:0]
}

// run makes n bytes.
func (e *Executor) run(op Op, from, n int64, base io.ReaderAt, baseSize int64, dst io.Writer) error {
	for n > 0 {
		m := int(min(n, int64(len(e.span)-e.fill)))
		out := e.span[e.fill : e.fill+m]
		var err error
		switch op {
		case OpZero:
			clear(out)
		case OpCopy:
			m, err = e.copy(out, base, from, baseSize)
			from += int64(m)
		case OpData:
			_, err = io.ReadFull(e.plan, out)
			err = unexpected(err)
		}
		if err != nil {
			return err
		}
		n -= int64(m)
		if e.fill += m; e.fill == len(e.span) {
			if err := e.flush(dst); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Executor) flush(dst io.Writer) error {
	if e.fill == 0 {
		return nil
	}
	_, err := dst.Write(e.span[:e.fill])
	e.fill = 0
	return err
}

// copy reads at least one byte of out from the base and returns how many. Whole blocks
// that start on a block in base and span are read in place, all else through window.
func (e *Executor) copy(out []byte, base io.ReaderAt, from, baseSize int64) (int, error) {
	inStep := from%verity.BlockSize == 0 && e.fill%verity.BlockSize == 0
	if whole := len(out) &^ (verity.BlockSize - 1); inStep && whole > 0 {
		return whole, readBase(base, out[:whole], from)
	}
	if from < e.start || from >= e.start+int64(len(e.window)) {
		if most := int(min(copyBuffer, baseSize)); cap(e.window) < most {
			e.window = alignedBuffer(most)
		}
		e.start = from &^ (verity.BlockSize - 1)
		end := (from + int64(len(out)) + verity.BlockSize - 1) &^ (verity.BlockSize - 1)
		e.window = e.window[:min(end, baseSize, e.start+copyBuffer)-e.start]
		if err := readBase(base, e.window, e.start); err != nil {
			e.window = e.window[:0]
			return 0, err
		}
	}
	return copy(out, e.window[from-e.start:]), nil
}

func readBase(base io.ReaderAt, b []byte, offset int64) error {
	if n, err := base.ReadAt(b, offset); n < len(b) {
		return fmt.Errorf("read base at %d: %w", offset+int64(n), unexpected(err))
	}
	return nil
}

// alignedBuffer returns n bytes that start on a block of memory, as a device that is
// read past the page cache wants them.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+verity.BlockSize)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (verity.BlockSize - 1)
	return b[skip:][:n:n]
}

// Pad makes a source of size bytes look like the image of PaddedSize(size) bytes that
// it makes.
func Pad(r io.ReaderAt, size int64) io.ReaderAt {
	if PaddedSize(size) == size {
		return r
	}
	return &padded{r, size}
}

type padded struct {
	r    io.ReaderAt
	size int64
}

func (p *padded) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < p.size {
		n, err = p.r.ReadAt(b[:min(int64(len(b)), p.size-offset)], offset)
		if n < len(b) && offset+int64(n) < p.size {
			return n, unexpected(err)
		}
	}
	end := PaddedSize(p.size)
	zeros := b[n:]
	if left := max(end-offset-int64(n), 0); int64(len(zeros)) > left {
		zeros, err = zeros[:left], io.EOF
	} else {
		err = nil
	}
	clear(zeros)
	return n + len(zeros), err
}
