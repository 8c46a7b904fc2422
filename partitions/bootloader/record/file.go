package record

import (
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
)

// File is the storage of a record: a regular file or a partition, opened for each call,
// so that an idle agent holds nothing that an unmount or a repair would wait for.
type File struct {
	path string
}

// OpenFile returns the storage of at least size bytes in the regular file or partition that
// spec names (see partitions.Resolve). Nothing behind these bytes is ever touched.
func OpenFile(spec string, size int64) (*File, error) {
	path, err := partitions.Resolve(spec)
	if err != nil {
		return nil, fmt.Errorf("boot record: %w", err)
	}
	d, err := partitions.OpenRead(path)
	if err != nil {
		return nil, fmt.Errorf("boot record: %w", err)
	}
	if got := d.Size(); got < size {
		return nil, errors.Join(fmt.Errorf("boot record %s: got %d bytes, want at least %d", path, got, size), d.Close())
	}
	return &File{path}, d.Close()
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	d, err := partitions.OpenRead(f.path)
	if err != nil {
		return 0, err
	}
	n, err := d.ReadAt(p, off)
	return n, errors.Join(err, d.Close())
}

// WriteAt writes durably, unless the process is killed in it.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	d, err := partitions.OpenWrite(f.path)
	if err != nil {
		return 0, err
	}
	n, err := d.WriteAt(p, off)
	if err == nil {
		err = d.Flush()
	}
	return n, errors.Join(err, d.Close())
}

// Flush implements bootloader.Block: it makes durable what any process wrote.
func (f *File) Flush() error {
	d, err := partitions.OpenWrite(f.path)
	if err != nil {
		return err
	}
	return errors.Join(d.Flush(), d.Close())
}
