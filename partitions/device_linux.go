package partitions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// bounceSize is how much is copied at once when a caller's memory is not aligned.
const bounceSize = 1 << 20

// device is a block device or regular file.
type device struct {
	path     string
	size     int64
	writable bool
	cached   *os.File // through the page cache; holds the lock or claim
	direct   *os.File // past the page cache, or nil where the file system cannot do that

	mu     sync.Mutex
	bounce []byte
	broken error // the first failed Flush
}

// Size returns the usable size: that of the device, rounded down to whole blocks.
func (d *device) Size() int64 { return d.size }

// File returns the image as an ordinary file.
func (d *device) File() *os.File { return d.cached }

// ReadAt fills p from offset off, past the page cache.
func (d *device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check("read", p, off); err != nil {
		return 0, err
	}
	if d.direct == nil {
		// Drop what the page cache holds of the range, so that the medium is read.
		// Dirty pages stay, but Flush has left none. A memory file system keeps its
		// pages: they are its medium.
		if err := unix.Fadvise(int(d.cached.Fd()), off, int64(len(p)), unix.FADV_DONTNEED); err != nil {
			return 0, fmt.Errorf("read %s: drop cached pages: %w", d.path, err)
		}
		return d.full(d.cached.ReadAt(p, off))
	}
	if isAligned(p) {
		return d.full(d.direct.ReadAt(p, off))
	}
	return d.bounced(p, func(b []byte, at int) (int, error) {
		n, err := d.full(d.direct.ReadAt(b, off+int64(at)))
		copy(p[at:], b[:n])
		return n, err
	})
}

// WriteAt writes p at offset off; it is durable after Flush.
func (d *device) WriteAt(p []byte, off int64) (int, error) {
	if !d.writable {
		return 0, fmt.Errorf("write %s: is open for reading only", d.path)
	}
	if err := d.check("write", p, off); err != nil {
		return 0, err
	}
	if d.direct == nil {
		return d.cached.WriteAt(p, off)
	}
	if isAligned(p) {
		return d.direct.WriteAt(p, off)
	}
	return d.bounced(p, func(b []byte, at int) (int, error) {
		copy(b, p[at:])
		return d.direct.WriteAt(b, off+int64(at))
	})
}

// Flush makes all writes so far durable. Linux reports a lost write once and then
// forgets it, so that a second Flush that succeeded would prove nothing: after the
// first failure every later one fails too.
func (d *device) Flush() error {
	if !d.writable {
		return fmt.Errorf("flush %s: is open for reading only", d.path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	if err := unix.Fdatasync(int(d.cached.Fd())); err != nil {
		d.broken = fmt.Errorf("flush %s: %w", d.path, err)
		return d.broken
	}
	if d.direct != nil {
		return nil
	}
	if err := unix.Fadvise(int(d.cached.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("flush %s: drop cached pages: %w", d.path, err)
	}
	return nil
}

// Close releases the device. It does not flush.
func (d *device) Close() error {
	var err error
	if d.direct != nil {
		err = d.direct.Close()
	}
	if d.writable {
		// A process that is being started at this moment may still have a copy of the
		// descriptor, and with it the lock: give it up for all copies.
		_ = unix.Flock(int(d.cached.Fd()), unix.LOCK_UN)
	}
	return errors.Join(err, d.cached.Close())
}

// check refuses every access that is not made of whole blocks within the device.
func (d *device) check(op string, p []byte, off int64) error {
	n := int64(len(p))
	switch {
	case off < 0 || off%alignment != 0 || n%alignment != 0:
		return fmt.Errorf("%s %s: got %d bytes at offset %d, want multiples of %d", op, d.path, n, off, alignment)
	case off > d.size || n > d.size-off:
		return fmt.Errorf("%s %s: got %d bytes at offset %d, want at most %d in all", op, d.path, n, off, d.size)
	}
	return nil
}

// full makes the end of a device that shrank an error of its own: within Size a short
// read is not an end of file.
func (d *device) full(n int, err error) (int, error) {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: %w", d.path, io.ErrUnexpectedEOF)
	}
	return n, err
}

// bounced moves p through aligned memory, piece by piece.
func (d *device) bounced(p []byte, move func(b []byte, at int) (int, error)) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bounce == nil {
		d.bounce = AlignedBuffer(bounceSize)
	}
	for at := 0; at < len(p); {
		b := d.bounce[:min(len(p)-at, bounceSize)]
		n, err := move(b, at)
		at += n
		if err != nil {
			return at, err
		}
	}
	return len(p), nil
}
