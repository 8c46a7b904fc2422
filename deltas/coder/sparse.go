package coder

import (
	"errors"
	"math/bits"
)

const (
	// flagOrders is how many contexts predict whether a byte is zero, and flagBits the
	// size of the table of each.
	flagOrders = 6
	flagBits   = 14
	// runFrom is after how many zeros the number of those that follow is coded at once.
	runFrom = 24
	// maxRunBits is how many bits the length of a run, plus one, may have.
	maxRunBits = 25
	// flagRate and runRate are how fast flags and lengths of runs are learned.
	flagRate = 4
	runRate  = 5
	// groupGap is how many zeros part two groups of bytes: addresses have fewer inside.
	groupGap = 3
)

var errRun = errors.New("run of zeros goes beyond the end")

// sparseModel codes streams that are mostly zero: first whether a byte is zero, then the
// byte if it is not, and after some zeros the length of the rest of the run.
type sparseModel struct {
	bytes *byteModel
	flags [flagOrders][1 << flagBits]uint16
	mixer mixer

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

func newSparseModel(n int) *sparseModel {
	m := newByteModel(n, 0)
	s := &sparseModel{bytes: m, mixer: newMixer(m.tables, runFrom*16, flagOrders), zeros: runFrom}
	for i := range s.flags {
		fill(s.flags[i][:])
	}
	for i := range s.runSize {
		fill(s.runSize[i][:])
		fill(s.runTop[i][:])
	}
	return s
}

// run encodes b, or decodes as many bytes into it.
func (s *sparseModel) run(rc *rangeCoder, b []byte) error {
	for i := 0; i < len(b); i++ {
		if rc.cut {
			return errCut
		}
		if s.zeros >= runFrom {
			n, err := s.zeroRun(rc, b[i:])
			if err != nil {
				return err
			}
			if i += n; i == len(b) {
				return nil
			}
		} else if s.isZero(rc, b[i] == 0) {
			b[i] = 0
			s.zeros++
			s.mask = s.mask<<1 | 1
			continue
		}
		if s.zeros >= groupGap {
			s.before, s.group, s.at = s.group, 0, 0
		} else {
			s.at += s.zeros
		}
		s.contexts()
		b[i] = s.bytes.code(rc, b[i], byte(s.values))
		s.follow(b[i])
	}
	return nil
}

// follow takes note of a byte that is not zero.
func (s *sparseModel) follow(c byte) {
	if s.at < 4 {
		s.group |= uint32(c) << (8 * s.at)
	}
	s.at++
	s.values = s.values<<8 | uint32(c)
	s.gaps = s.gaps<<8 | uint32(s.zeros)
	s.mask <<= 1
	s.zeros = 0
}

// zeroRun codes how many zeros b starts with: the number of bits of the count plus one,
// then those bits but the first.
func (s *sparseModel) zeroRun(rc *rangeCoder, b []byte) (int, error) {
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
		if codeBit(rc, &s.runSize[s.lastRun][size], more, runRate) == 0 {
			break
		}
	}
	length := 1
	for i := size - 2; i >= 0; i-- {
		bit := (n + 1) >> i & 1
		if length < 8 {
			bit = codeBit(rc, &s.runTop[size][length], bit, runRate)
		} else {
			bit = rc.code(bit, 1<<15)
		}
		length = length<<1 | bit
	}
	s.lastRun = size
	if length--; length > len(b) {
		return 0, errRun
	}
	if rc.decoding {
		clear(b[:length])
	}
	return length, nil
}

// isZero codes whether the next byte is zero.
func (s *sparseModel) isZero(rc *rangeCoder, zero bool) bool {
	var used [flagOrders]*uint16
	z := uint64(s.zeros)
	gaps, mask, values := uint64(s.gaps), uint64(s.mask), uint64(s.values)
	context := [flagOrders]uint64{
		gaps&0xffffff<<8 | z,
		mask & 0xffff,
		values&0xff<<20 | mask&0xff<<8 | z,
		values&0xffffff<<8 | z,
		uint64(s.before&0xffff)<<24 | uint64(s.group&0xffff)<<8 | z,
		mask&0xf<<32 | gaps&0xffff<<8 | z,
	}
	for i, c := range context {
		used[i] = &s.flags[i][hash(c, uint64(i))>>(32-flagBits)]
		s.mixer.in[i] = int32(s.bytes.tables.stretch[*used[i]>>4])
	}
	s.mixer.mix(s.zeros<<4 | int(s.mask&15))
	bit := 0
	if zero {
		bit = 1
	}
	bit = rc.code(bit, legal(s.mixer.one))
	s.mixer.learn(bit)
	for _, p := range used {
		approach(p, bit, flagRate)
	}
	return bit == 1
}

// contexts sets the contexts of a byte that is not zero.
func (s *sparseModel) contexts() {
	values, zeros, mask := uint64(s.values), uint64(s.zeros), uint64(s.mask)
	at := uint64(min(s.at, 4))
	same := uint64(s.before>>(8*at)) & 0xffff // what stood there in the group before
	s.bytes.situation = min(s.at, matchClasses-1)
	s.bytes.context = [orders]uint32{
		hash(zeros<<16|mask&0xffff, 1),
		hash(values&0xff<<8|zeros, 2),
		hash(values&0xffff<<8|zeros, 3),
		hash(values&0xffffff<<8|zeros, 4),
		hash(mask&0xff, 5),
		hash(same<<40|uint64(s.group&0xffff)<<8|at, 6),
	}
}
