package verity

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/twinkeel/twinkeel/release"
)

// maxHashes bounds the bytes that Hashes remember: those of the spans asked for last.
const maxHashes = 64 << 20

// Hashes remember what spans hash to: a pure function of salt and bytes, and the bytes
// are compared, each time, with those that were hashed. Whoever reads the same images
// back over and over, as a simulator does, hashes each of them once. A host does not: what
// it reads back is nowhere in its memory. The zero value is ready to use, by any number
// of goroutines; a nil pointer remembers nothing.
type Hashes struct {
	mu   sync.Mutex
	seed maphash.Seed
	// made and before are the remembered spans by a hash of them that finds and proves
	// nothing; before is what was made before it grew too large.
	made, before map[uint64]*hashed
	size         int
}

// hashed is a span and what it hashes to. A span that was seen only once has no data: most
// of what is damaged is damaged in its own way.
type hashed struct {
	salt release.Salt
	data []byte
	leaf [BlockSize]byte
	node release.Digest
}

// Span is HashSpan.
func (h *Hashes) Span(salt release.Salt, data []byte) ([BlockSize]byte, release.Digest) {
	if h == nil {
		return HashSpan(salt, data)
	}
	key, k := h.find(data)
	if k != nil && bytes.Equal(k.data, data) && bytes.Equal(k.salt, salt) {
		return k.leaf, k.node
	}
	leaf, node := HashSpan(salt, data)
	if k == nil {
		h.keep(key, &hashed{})
	} else {
		h.keep(key, &hashed{bytes.Clone(salt), bytes.Clone(data), leaf, node})
	}
	return leaf, node
}

// find returns what is remembered under the key of data, or nil.
func (h *Hashes) find(data []byte) (uint64, *hashed) {
	h.mu.Lock()
	if h.made == nil {
		h.seed, h.made = maphash.MakeSeed(), map[uint64]*hashed{}
	}
	seed := h.seed
	h.mu.Unlock()
	key := maphash.Bytes(seed, data)
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.made[key]
	if k == nil {
		if k = h.before[key]; k != nil {
			h.put(key, k)
		}
	}
	return key, k
}

func (h *Hashes) keep(key uint64, k *hashed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.put(key, k)
}

// put remembers k; mu is held.
func (h *Hashes) put(key uint64, k *hashed) {
	const entry = 2 * BlockSize // what one costs beside its data, and a little more
	if h.size += len(k.data) + entry; h.size > maxHashes/2 {
		h.made, h.before, h.size = map[uint64]*hashed{}, h.made, len(k.data)+entry
	}
	h.made[key] = k
}
