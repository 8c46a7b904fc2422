package coder

import (
	"errors"
	"math/bits"
)

const (
	// sparseSlots is 2 MiB.
	sparseSlots = 1 << 16
	// runFrom is after how many zeros the number of those that follow is coded at once.
	runFrom = 24
	// maxRunBits is how many bits the length of a run, plus one, may have.
	maxRunBits = 25
	// runRate is how fast lengths of runs are learned.
	runRate = 5
	// groupGap is how many zeros part two groups of bytes: addresses have fewer inside.
	groupGap = 3
)

var errRun = errors.New("run of zeros goes beyond the end")

// sparse is the model of what is mostly zero: first whether a byte is zero, then the byte
// if it is not, and after some zeros the length of the rest of the run.
type sparse struct {
	bytes byteModel
	flags quad

	left   int    // bytes of the stream that are not yet coded
	run    int    // zeros of the run that are not yet given out
	ended  bool   // whether a run has just ended, so that no zero can follow
	zeros  int    // how many came last; no more than runFrom
	mask   uint32 // which of the last bytes were zero, a bit each
	values uint32 // the last non-zero bytes
	gaps   uint32 // the last numbers of zeros, a byte each
	group  uint32 // the first four bytes of the group that is being read,
	before uint32 // and of the one before
	at     int    // how many bytes of the group there are

	runSize [maxRunBits + 1][maxRunBits + 1]uint16 // by size of the run before, and sizes ruled out
	runTop  [maxRunBits + 1][8]uint16              // by size, and the top bits
	lastRun int                                    // size of the run before
}

// reset makes s ready for a stream of n bytes.
func (s *sparse) reset(t *tables, n int) {
	s.bytes.reset(t, n, sparseSlots)
	s.flags.reset(t)
	for i := range s.runSize {
		fill(s.runSize[i][:])
		fill(s.runTop[i][:])
	}
	s.left, s.run, s.ended, s.zeros, s.lastRun = n, 0, false, runFrom, 0
	s.mask, s.values, s.gaps, s.group, s.before, s.at = 0, 0, 0, 0, 0, 0
}

// code encodes b, which is the whole stream, or decodes the next bytes into it.
func (s *sparse) code(rc *rangeCoder, b []byte) error {
	for len(b) > 0 {
		if rc.cut {
			return errCut
		}
		switch {
		case s.run > 0:
			n := min(s.run, len(b))
			clear(b[:n])
			b, s.run, s.left = b[n:], s.run-n, s.left-n
			continue
		case s.zeros == runFrom && !s.ended:
			if err := s.zeroRun(rc, b); err != nil {
				return err
			}
			s.ended = true
			continue
		case !s.ended && s.isZero(rc, b[0] == 0):
			b[0] = 0
			s.zeros++
			s.mask = s.mask<<1 | 1
		default:
			b[0] = s.value(rc, b[0])
			s.ended = false
		}
		b = b[1:]
		s.left--
	}
	return nil
}

// value codes a byte that is not zero.
func (s *sparse) value(rc *rangeCoder, c byte) byte {
	if s.zeros >= groupGap {
		s.before, s.group, s.at = s.group, 0, 0
	} else {
		s.at += s.zeros
	}
	s.contexts()
	c = s.bytes.code(rc, c, byte(s.values))
	if s.at < 4 {
		s.group |= uint32(c) << (8 * s.at)
	}
	s.at++
	s.values = s.values<<8 | uint32(c)
	s.gaps = s.gaps<<8 | uint32(s.zeros)
	s.mask <<= 1
	s.zeros = 0
	return c
}

// contexts sets the contexts of a byte that is not zero.
func (s *sparse) contexts() {
	values, zeros, mask := uint64(s.values), uint64(s.zeros), uint64(s.mask)
	at := uint64(min(s.at, 4))
	same := uint64(s.before>>(8*at)) & 0xffff // what stood there in the group before
	s.bytes.situation = uint32(min(s.at, situations-1))
	s.bytes.context = [byteContexts]uint32{
		hash(zeros<<16|mask&0xffff, 1),
		hash(values&0xffff<<8|zeros, 2),
		hash(same<<40|uint64(s.group&0xffff)<<8|at, 3),
	}
}

// isZero codes whether the next byte is zero.
func (s *sparse) isZero(rc *rangeCoder, zero bool) bool {
	z := uint64(s.zeros)
	gaps, mask, values := uint64(s.gaps), uint64(s.mask), uint64(s.values)
	bit := 0
	if zero {
		bit = 1
	}
	return s.flags.code(rc, bit,
		gaps&0xffffff<<8|z,
		values&0xff<<20|mask&0xff<<8|z,
		uint64(s.before&0xffff)<<24|uint64(s.group&0xffff)<<8|z,
		mask&0xffff,
		s.zeros<<4|int(mask&15)) == 1
}

// zeroRun codes how many zeros b starts with: the number of bits of the count plus one,
// then those bits but the first.
func (s *sparse) zeroRun(rc *rangeCoder, b []byte) error {
	n := 0
	if !rc.decoding {
		for n < len(b) && b[n] == 0 {
			n++
		}
	}
	want := bits.Len(uint(n + 1))
	size := 1
	for ; size < maxRunBits; size++ {
		more := 0
		if want > size {
			more = 1
		}
		if rc.learn(&s.runSize[s.lastRun][size], more, runRate) == 0 {
			break
		}
	}
	length := 1
	for i := size - 2; i >= 0; i-- {
		bit := (n + 1) >> i & 1
		if length < 8 {
			bit = rc.learn(&s.runTop[size][length], bit, runRate)
		} else {
			bit = rc.code(bit, evenOdds)
		}
		length = length<<1 | bit
	}
	s.lastRun = size
	if s.run = length - 1; s.run > s.left {
		return errRun
	}
	return nil
}
