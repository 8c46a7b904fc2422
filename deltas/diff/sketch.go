package diff

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// sketchSize is how many numbers stand for a file's content.
	sketchSize = 64
	// minAlike is how many of them must be the same for files to be taken for alike.
	minAlike = 3
	// maxAlike is how many files may share a number; more are not told apart by it.
	maxAlike = 32
	// minSketch is the least content that is sketched, in bytes.
	minSketch = 512
)

// sketch is what is left of a file's content, in short: of the hashes of every 8 bytes
// that are together, the least of each class (Li, Owen and Zhang, "One Permutation
// Hashing", 2012). 0 stands for none.
type sketch [sketchSize]uint64

// trait is one number of the sketch of a file.
type trait struct {
	hash uint64
	file int
}

// pairByContent gives each file of new that has no partner yet the file of old that is
// most like it, if any is.
func pairByContent(old, new *side, partner []int) error {
	var traits []trait
	for i, p := range partner {
		if p >= 0 || length(new.own[i]) < minSketch {
			continue
		}
		if traits == nil {
			var err error
			if traits, err = old.traits(); err != nil {
				return fmt.Errorf("old: %w", err)
			}
		}
		s, err := new.sketch(i)
		if err != nil {
			return fmt.Errorf("new: %w", err)
		}
		partner[i] = mostAlike(traits, s)
	}
	return nil
}

// traits returns those of all files that something is left of, sorted.
func (s *side) traits() ([]trait, error) {
	list := []trait{}
	for i := range s.files {
		if length(s.own[i]) < minSketch {
			continue
		}
		k, err := s.sketch(i)
		if err != nil {
			return nil, err
		}
		for _, h := range k {
			if h != 0 {
				list = append(list, trait{h, i})
			}
		}
	}
	slices.SortFunc(list, func(a, b trait) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.file, b.file)) })
	return list, nil
}

func mostAlike(traits []trait, s sketch) int {
	votes := make(map[int]int)
	best := -1
	for _, h := range s {
		if h == 0 {
			continue
		}
		first, _ := slices.BinarySearchFunc(traits, h, func(t trait, h uint64) int { return cmp.Compare(t.hash, h) })
		end := first
		for end < len(traits) && traits[end].hash == h {
			end++
		}
		if end-first > maxAlike {
			continue
		}
		for _, t := range traits[first:end] {
			votes[t.file]++
			if n := votes[t.file]; n >= minAlike && (best < 0 || n > votes[best]) {
				best = t.file
			}
		}
	}
	return best
}

// sketch reads what is left of the file i.
func (s *side) sketch(i int) (k sketch, err error) {
	r := newResidual(s.image, s.areas, s.own[i])
	buffer := make([]byte, min(compareSize, r.size))
	for at := int64(0); at < r.size; {
		b := buffer[:min(compareSize, r.size-at)]
		if err := r.read(b, at); err != nil {
			return k, err
		}
		k.add(b)
		at += int64(len(b))
	}
	return k, nil
}

func (k *sketch) add(b []byte) {
	for i := 0; i+8 <= len(b); i++ {
		v := binary.LittleEndian.Uint64(b[i:])
		if v == bits.RotateLeft64(v, 8) {
			continue // of one byte: all files have those
		}
		h := mix(v * radix)
		if at := h >> (64 - 6); k[at] == 0 || h < k[at] {
			k[at] = h
		}
	}
}
