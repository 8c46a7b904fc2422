package blocks

import (
	"bytes"
	"slices"
	"sort"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
)

// Where a block of the image is to come from, instead of a block of the base.
const (
	Lacking = -1 // it must be fetched
	Zero    = -2 // it is all zero
	Kept    = -3 // it is there already
)

// maxGap is how many bytes of payload nobody needs are fetched rather than asking once
// more: about what a request and its answer cost besides.
const maxGap = 4 << 10

// maxFetch bounds one request, in bytes of payload, if more than one frame is in it.
const maxFetch = 1 << 20

// Comparison says where the blocks of an image can be had: memory is 4 bytes for each
// block, twice that while a base is compared.
type Comparison struct {
	m     *Map
	order []uint32 // blocks, by what the map says of them
	from  []int32  // for each block: block of the base, Lacking or Zero
}

// Compare begins a comparison: all blocks but zeros are lacking. AddBase says what a base has.
func (m *Map) Compare() *Comparison {
	c := &Comparison{m: m, order: make([]uint32, m.Blocks()), from: make([]int32, m.Blocks())}
	for i := range c.order {
		c.order[i], c.from[i] = uint32(i), Lacking
	}
	slices.SortFunc(c.order, func(a, b uint32) int {
		if d := bytes.Compare(m.id(int(a)), m.id(int(b))); d != 0 {
			return d
		}
		return int(a) - int(b)
	})
	var zeros [verity.MinSize]byte
	leaf, _ := verity.HashSpan(m.target.Salt, zeros[:verity.BlockSize])
	c.set(leaf[:], Zero)
	return c
}

// AddBase takes the hashes of the base's blocks, 32 bytes each, from the block first on.
// They are what the base's tree says: whoever copies a block looks at the block.
func (c *Comparison) AddBase(first int, hashes []byte) {
	for ; len(hashes) >= len(release.Digest{}); hashes = hashes[len(release.Digest{}):] {
		c.set(hashes, int32(first))
		first++
	}
}

// AddMap takes what another map says of its image's blocks, which only a publisher has at
// hand. Images with another salt have no block in common.
func (c *Comparison) AddMap(base *Map) {
	if !bytes.Equal(base.target.Salt, c.m.target.Salt) {
		return
	}
	for i := range base.Blocks() {
		c.set(base.id(i), int32(i))
	}
}

// set says where all blocks with this hash that are lacking so far come from.
func (c *Comparison) set(hash []byte, from int32) {
	at := sort.Search(len(c.order), func(i int) bool { return bytes.Compare(c.m.id(int(c.order[i])), hash[:idSize]) >= 0 })
	for ; at < len(c.order) && c.m.Is(int(c.order[at]), hash); at++ {
		// Blocks alike are found together: an image of holes must not cost their square.
		if b := c.order[at]; c.from[b] != Lacking {
			return
		}
		c.from[c.order[at]] = from
	}
}

// Keep says that a block of the image is in its place already.
func (c *Comparison) Keep(block int) { c.from[block] = Kept }

// Lack says that a block must be fetched after all: it is not where it seemed to be.
func (c *Comparison) Lack(block int) { c.from[block] = Lacking }

// From returns where a block of the image comes from: a block of the base, Lacking,
// Zero or Kept.
func (c *Comparison) From(block int) int { return int(c.from[block]) }

// Needed reports whether frame i has a block that is lacking.
func (c *Comparison) Needed(i int) bool {
	first := i * c.m.frame
	return slices.Contains(c.from[first:min(first+c.m.frame, len(c.from))], Lacking)
}

// Batch returns up to which frame the payloads are fetched in one request that begins
// with frame first, which is needed. Those in between are needed or so short that they
// cost less than another request.
func (c *Comparison) Batch(first int) (end int) {
	start := c.m.Frame(first).PayloadOffset
	end = first + 1
	for i := end; i < c.m.Frames(); i++ {
		f := c.m.Frame(i)
		if f.PayloadOffset-c.m.ends[end-1] > maxGap || f.PayloadOffset+f.PayloadLength-start > maxFetch {
			break
		}
		if c.Needed(i) {
			end = i + 1
		}
	}
	return end
}

// Download returns how many bytes of payload, in how many requests, bring everything that
// is lacking.
func (c *Comparison) Download() (size int64, requests int) {
	for i := 0; i < c.m.Frames(); {
		if !c.Needed(i) {
			i++
			continue
		}
		end := c.Batch(i)
		size += c.m.ends[end-1] - c.m.Frame(i).PayloadOffset
		requests++
		i = end
	}
	return size, requests
}
