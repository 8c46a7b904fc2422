package diff

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/twinkeel/twinkeel/deltas"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

const (
	blockSize = verity.BlockSize
	// maxEqual is how many blocks of one hash are indexed. Images hold some blocks in
	// thousands of copies; trying all would be quadratic.
	maxEqual = 4
	// filterBits is the size of the index's filter for each block, in bits.
	filterBits = 16
)

// index finds blocks of the old image by their hash.
type index struct {
	hashes []uint64 // of each block
	slots  []uint32 // block number + 1, open addressing
	shift  uint     // of a mixed hash, to a number of slots
	filter []uint64 // one bit for some bits of each hash; asked first, as it fits a cache
	fshift uint
}

// scanOld reads the old image: its root, and the index.
func (c *creator) scanOld(ctx context.Context) error {
	if !c.hasOld {
		return nil
	}
	hashes := make([]uint64, c.old.size/blockSize)
	spans := verity.Spans(c.old.size)
	tree := verity.NewBuilder(c.old.size, c.old.salt)
	nodes := make([]release.Digest, spans)
	buffers := make([][]byte, c.threads)
	programs := make([][]int64, spans)
	err := parallel(ctx, c.threads, spans, func(_ context.Context, worker, i int) error {
		if buffers[worker] == nil {
			buffers[worker] = make([]byte, verity.NodeSpan)
		}
		span := buffers[worker][:verity.SpanLength(c.old.size, i)]
		if err := c.old.read(span, int64(i)*verity.NodeSpan); err != nil {
			return fmt.Errorf("old: %w", err)
		}
		_, nodes[i] = verity.HashSpan(c.old.salt, span)
		first := i * (verity.NodeSpan / blockSize)
		for j := 0; j < len(span); j += blockSize {
			hashes[first+j/blockSize] = hashBlock(span[j : j+blockSize])
			if startsProgram(span[j:]) {
				programs[i] = append(programs[i], int64(i)*verity.NodeSpan+int64(j))
			}
		}
		c.progress.add(int64(len(span)))
		return nil
	})
	if err != nil {
		return err
	}
	c.oldPrograms = slices.Concat(programs...)
	for _, n := range nodes {
		tree.Add(n)
	}
	c.head.Base = deltas.Identity{Size: c.old.size, Salt: c.old.salt}
	c.head.Base.Root, _, err = tree.Finish()
	c.index = newIndex(hashes)
	return err
}

func newIndex(hashes []uint64) *index {
	n := uint(bits.Len(uint(2 * len(hashes))))
	f := uint(bits.Len(uint(filterBits * len(hashes))))
	x := &index{
		hashes: hashes,
		slots:  make([]uint32, 1<<n),
		shift:  64 - n,
		filter: make([]uint64, 1<<f/64),
		fshift: 64 - f,
	}
	zero := hashBlock(make([]byte, blockSize))
	for i, h := range hashes {
		if h != zero { // zero blocks become ZERO
			x.insert(h, uint32(i)+1)
		}
	}
	return x
}

func (x *index) insert(h uint64, block uint32) {
	equal := 0
	for s := mix(h) >> x.shift; ; s = (s + 1) & uint64(len(x.slots)-1) {
		if x.slots[s] == 0 {
			x.slots[s] = block
			f := mix(h) >> x.fshift
			x.filter[f/64] |= 1 << (f % 64)
			return
		}
		if x.hashes[x.slots[s]-1] == h {
			if equal++; equal == maxEqual {
				return
			}
		}
	}
}

// mayContain is false if no block has the hash h.
func (x *index) mayContain(h uint64) bool {
	f := mix(h) >> x.fshift
	return x.filter[f/64]&(1<<(f%64)) != 0
}

// find appends to list the offsets of the first blocks that have the hash h.
func (x *index) find(h uint64, list []int64) []int64 {
	for s := mix(h) >> x.shift; x.slots[s] != 0; s = (s + 1) & uint64(len(x.slots)-1) {
		if block := x.slots[s] - 1; x.hashes[block] == h {
			list = append(list, int64(block)*blockSize)
		}
	}
	return list
}

// mix spreads a polynomial hash, whose low bits depend on little, over the high bits.
func mix(h uint64) uint64 { return (h ^ h>>29) * 0x9e3779b97f4a7c15 }
