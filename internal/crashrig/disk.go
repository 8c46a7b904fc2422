package crashrig

import (
	"math/rand/v2"
	"slices"
	"sync"
)

// sector is what a disk writes or does not write as one, in bytes.
const sector = 512

// Disk is an image in memory and the record of everything that was written to it.
type Disk struct {
	mu    sync.Mutex
	base  []byte // before the first entry of log
	image []byte
	log   []entry
}

// entry is a write, or a flush if data is nil.
type entry struct {
	off  int64
	data []byte
}

// NewDisk returns a disk that holds image.
func NewDisk(image []byte) *Disk { return &Disk{base: image, image: slices.Clone(image)} }

// Now is the number of writes and flushes so far.
func (d *Disk) Now() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

func (d *Disk) read(b []byte, off int64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off >= int64(len(d.image)) {
		return 0
	}
	return copy(b, d.image[off:])
}

func (d *Disk) write(b []byte, off int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off > int64(len(d.image)) || int64(len(b)) > int64(len(d.image))-off {
		return false
	}
	copy(d.image[off:], b)
	d.log = append(d.log, entry{off, slices.Clone(b)})
	return true
}

func (d *Disk) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, entry{})
}

// Writes returns how many entries of the record are writes, and how many flushes.
func (d *Disk) Writes() (writes, flushes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.log {
		if e.data == nil {
			flushes++
		} else {
			writes++
		}
	}
	return writes, flushes
}

// Crash returns what the disk may hold if the power fails when the record has n entries.
// The states of one moment differ by rng.
func (d *Disk) Crash(n int, rng *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	image := slices.Clone(d.base)
	flushed := 0
	for i, e := range d.log[:n] {
		if e.data == nil {
			flushed = i
		}
	}
	for _, e := range d.log[:flushed] {
		copy(image[e.off:], e.data)
	}
	loose := slices.Clone(d.log[flushed:n])
	rest := slices.DeleteFunc(loose, func(e entry) bool { return e.data == nil })
	keep := rng.IntN(4) // nothing, all, or any part
	if rng.IntN(2) == 0 {
		rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	}
	for _, e := range rest {
		switch {
		case keep == 0:
		case keep == 1 || rng.IntN(3) == 0:
			copy(image[e.off:], e.data)
		case rng.IntN(2) == 0:
			for at := 0; at < len(e.data); at += sector {
				if rng.IntN(2) == 0 {
					copy(image[e.off+int64(at):], e.data[at:min(at+sector, len(e.data))])
				}
			}
		}
	}
	return image
}
