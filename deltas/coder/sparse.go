package coder

import (
	"errors"
	"math/bits"
)

const (
	// flagOrders is how many contexts predict whether a byte is zero.
	flagOrders = 6
	flagBits   = 14
	// runFrom is after how many zeros the number of those that follow is coded at once.
	runFrom = 32
	// maxRunBits is how many bits the length of a run may have.
	maxRunBits = 25
)

var errRun = errors.New("run of zeros goes beyond the end")

// sparseModel codes streams that are mostly zero: first whether a byte is zero, then the
// byte if it is not, and after some zeros the length of the rest of the run.
type sparseModel struct {
	bytes *byteModel

	flags  [flagOrders][1 << flagBits]uint16
	mixer  mixer
	zeros  int    // how many came last
	mask   uint32 // which of the last bytes were zero
	values uint32 // the last non-zero bytes
	gaps   uint32 // the last numbers of zeros, a byte each

	groups [3]uint32 // the first bytes of the group of bytes being read, and of the last ones
	at     int       // in the group

	runSize [32][32]uint16 // by size of the run before, and of bits ruled out
	runTop  [32][8]uint16
	lastRun int
}

func newSparseModel(n int) *sparseModel {
	s := &sparseModel{bytes: newByteModel(n, 0), mixer: newMixer((runFrom+1)*16, flagOrders), zeros: runFrom}
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
		ended := false
		if s.zeros >= runFrom {
			n, err := s.zeroRun(rc, b[i:])
			if err != nil {
				return err
			}
			if i += n; i == len(b) {
				return nil
			}
			s.zeros, ended = runFrom, true
		}
		if !ended && s.isZero(rc, b[i] == 0) {
			b[i] = 0
			s.zeros++
			s.mask = s.mask<<1 | 1
			continue
		}
		if s.zeros >= 3 {
			s.groups[2], s.groups[1], s.groups[0], s.at = s.groups[1], s.groups[0], 0, 0
		} else {
			s.at += s.zeros
		}
		s.contexts(i)
		b[i] = s.bytes.code(rc, b[i], byte(s.values))
		if s.at < 4 {
			s.groups[0] |= uint32(b[i]) << (8 * s.at)
		}
		s.at++
		s.values = s.values<<8 | uint32(b[i])
		s.gaps = s.gaps<<8 | uint32(s.zeros)
		s.mask <<= 1
		s.zeros = 0
	}
	return nil
}

// zeroRun codes how many zeros come next.
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
		p := &s.runSize[s.lastRun][size]
		more := 0
		if want > size {
			more = 1
		}
		if more = codeBit(rc, p, more, 5); more == 0 {
			break
		}
	}
	length := 1
	for i := size - 2; i >= 0; i-- {
		bit := (n + 1) >> i & 1
		if length < 8 {
			bit = codeBit(rc, &s.runTop[size][length], bit, 5)
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
	context := [flagOrders]uint64{
		uint64(s.gaps&0xffffff)<<8 | z, uint64(s.mask & 0xffff), uint64(s.values&0xff)<<20 | uint64(s.mask&0xff)<<8 | z, uint64(s.values&0xffffff)<<8 | z,
		uint64(s.groups[1]&0xffff)<<24 | uint64(s.groups[0]&0xffff)<<8 | z, uint64(s.mask&0xf)<<32 | uint64(s.gaps&0xffff)<<8 | z,
	}
	for i, c := range context {
		used[i] = &s.flags[i][hash(c, uint64(i))>>(32-flagBits)]
		s.mixer.in[i] = int32(stretchTable[*used[i]>>4])
	}
	s.mixer.mix(s.zeros<<4 | int(s.mask&15))
	bit := 0
	if zero {
		bit = 1
	}
	bit = rc.code(bit, legal(s.mixer.one))
	s.mixer.learn(bit)
	for _, p := range used {
		approach(p, bit, 4)
	}
	return bit == 1
}

// contexts sets the contexts of a byte that is not zero.
func (s *sparseModel) contexts(i int) {
	v, z := uint64(s.values), uint64(s.zeros)
	at := uint64(min(s.at, 4))
	group := uint64(s.groups[1]>>(8*at)) & 0xffff
	s.bytes.context = [orders]uint32{
		hash(z<<16|uint64(s.mask&0xffff), 1), hash(v&0xff<<8|z, 2), hash(v&0xffff<<8|z, 3), hash(v&0xffffff<<8|z, 4),
		hash(uint64(s.mask&0xff), 5), hash(group<<40|uint64(s.groups[0]&0xffff)<<8|at, 6),
	}
}
