package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// Behaviour is what happens on a machine that boots a release.
type Behaviour int

// The behaviours.
const (
	Healthy    Behaviour = iota
	Unhealthy            // a required probe never passes
	Flapping             // the probe passes at first, and then no more
	Unbootable           // the kernel starts, panics and resets
	Unloadable           // the loader cannot load it and takes the other slot in the same boot
	Mute                 // it boots, and its agent never comes up; a dead-man resets the machine
	Looping              // an application that ends again and again
)

// String names the behaviour.
func (b Behaviour) String() string {
	return [...]string{"healthy", "unhealthy", "flapping", "unbootable", "unloadable", "mute", "looping"}[b]
}

// Release is a published release, and what it does.
type Release struct {
	Manifest  *release.Manifest
	Behaviour Behaviour
	// parts holds for each image what a slot's partition holds: the image, and behind
	// it its verity tree.
	parts map[string][]byte
}

// String names the release.
func (r *Release) String() string {
	if r == nil {
		return "nothing"
	}
	return "release " + r.Manifest.Version.String() + ", " + r.Behaviour.String()
}

// image returns the image called name without its tree.
func (r *Release) image(name string) []byte {
	i, _ := r.Manifest.Image(name)
	return r.parts[name][:i.Size]
}

func (r *Release) root() release.Digest {
	i, _ := r.Manifest.Image("root")
	return i.Root
}

// description is what a boot loader has to know of the release.
func (r *Release) description() bootloader.Description {
	d := bootloader.Description{Version: r.Manifest.Version, Images: map[string]release.Digest{}}
	for _, i := range r.Manifest.Images {
		d.Images[i.Name] = i.Root
		if i.Name == "root" {
			d.Root, d.Salt, d.HashOffset = i.Root, i.Salt, i.Size
		}
	}
	return d
}

// in reports whether a slot holds the release, bit for bit: as a reader sees it, or
// durably.
func (r *Release) in(disks map[string]*Disk, durably bool) bool {
	for name, want := range r.parts {
		d := disks[name]
		if d == nil || d.Size() < int64(len(want)) {
			return false
		}
		got := d.view
		if durably {
			got = d.stable
		}
		if !bytes.Equal(got[:len(want)], want) {
			return false
		}
	}
	return true
}

// Edit makes the next version of an image: some blocks new, some moved, a hole, the
// size another.
func Edit(image []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	next := slices.Clone(image)
	blocks := len(next) / release.BlockSize
	at := func(i int) []byte { return next[i*release.BlockSize:][:release.BlockSize] }
	for range max(2, blocks/8) {
		fill(r, at(r.IntN(blocks))[:1+r.IntN(release.BlockSize)])
	}
	for range max(1, blocks/16) {
		copy(at(r.IntN(blocks)), image[r.IntN(blocks)*release.BlockSize:])
	}
	clear(at(r.IntN(blocks)))
	more := make([]byte, release.BlockSize*(1+r.IntN(3)))
	fill(r, more)
	return append(next, more...)
}

// Image makes an image of size bytes: compressible text, noise and holes.
func Image(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, size)
	for at := 0; at < size; at += release.BlockSize {
		block := b[at:min(at+release.BlockSize, size)]
		switch r.IntN(4) {
		case 0: // a hole
		case 1:
			fill(r, block)
		default:
			for i := range block {
				block[i] = "the quick brown fox jumps over the lazy dog\n"[(i+at/release.BlockSize)%44]
			}
			fill(r, block[:64])
		}
	}
	return b
}

func fill(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// withTree returns the image with its verity tree behind it, and the tree's root.
func withTree(image []byte, salt release.Salt) ([]byte, release.Digest, error) {
	size := int64(len(image))
	if err := verity.CheckSize(size); err != nil {
		return nil, release.Digest{}, err
	}
	part := make([]byte, size+verity.TreeSize(size))
	copy(part, image)
	tree := verity.NewBuilder(size, salt)
	for i := range verity.Spans(size) {
		span := image[int64(i)*verity.NodeSpan:][:verity.SpanLength(size, i)]
		leaf, node := verity.HashSpan(salt, span)
		copy(part[verity.LeafOffset(size, i):], leaf[:])
		tree.Add(node)
	}
	root, upper, err := tree.Finish()
	if err != nil {
		return nil, root, fmt.Errorf("verity tree of %d bytes: %w", size, err)
	}
	for _, b := range upper {
		copy(part[b.Offset:], b.Data[:])
	}
	return part, root, nil
}
