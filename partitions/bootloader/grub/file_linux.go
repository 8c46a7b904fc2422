package grub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// The names of the four files.
const (
	fileRecord = "grubenv"
	fileCopy   = "grubenv2"
	fileSlotA  = "slota"
	fileSlotB  = "slotb"
)

// Files returns the blocks that lie in dir. Each has to be a regular file of BlockSize
// bytes.
func Files(dir string) (Blocks, error) {
	var files [4]*file
	for i, name := range []string{fileRecord, fileCopy, fileSlotA, fileSlotB} {
		files[i] = &file{filepath.Join(dir, name)}
		f, err := files[i].open(os.O_RDONLY)
		if err != nil {
			return Blocks{}, fmt.Errorf("boot record: %w", err)
		}
		if err := f.Close(); err != nil {
			return Blocks{}, err
		}
	}
	return Blocks{Record: files[0], Copy: files[1], Slots: [2]bootloader.Block{files[2], files[3]}}, nil
}

// MakeFiles makes the four files in dir, for Create. A file that is there is kept if it
// has the right size; nothing else is ever made or resized.
func MakeFiles(dir string) (Blocks, error) {
	for _, name := range []string{fileRecord, fileCopy, fileSlotA, fileSlotB} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return Blocks{}, fmt.Errorf("boot record: %w", err)
		}
		// Written in full: GRUB cannot write to a block that a hole stands for.
		e, err := (&Env{}).Encode()
		if err == nil {
			_, err = f.Write(e)
		}
		if err == nil {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return Blocks{}, fmt.Errorf("boot record: %w", err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return Blocks{}, fmt.Errorf("boot record: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return Blocks{}, fmt.Errorf("boot record: sync %s: %w", dir, err)
	}
	return Files(dir)
}

// Open returns the loader whose blocks lie in dir.
func Open(dir string, kernel Kernel) (*Loader, error) {
	b, err := Files(dir)
	if err != nil {
		return nil, err
	}
	return New(b, kernel), nil
}

// file is an environment block in a regular file, opened for each call, so that an idle
// agent does not keep the boot partition from being unmounted.
type file struct {
	path string
}

// open opens the file and checks that it can be a block. A link is refused: GRUB would
// follow it otherwise than Linux does.
func (f *file) open(flags int) (*os.File, error) {
	h, err := os.OpenFile(f.path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := h.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != BlockSize) {
		err = fmt.Errorf("%s: %v, %d bytes, want a regular file of %d", f.path, st.Mode(), st.Size(), BlockSize)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	h, err := f.open(os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	n, err := h.ReadAt(p, off)
	return n, errors.Join(err, h.Close())
}

// WriteAt writes whole sectors in place, durably unless the process is killed in it. It
// bypasses the page cache, which would write a page of 4096 bytes (p has to be aligned
// for that, as partitions.AlignedBuffer is), and does without where the file system or a disk with larger sectors cannot do that.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off%sector != 0 || len(p)%sector != 0 || int64(len(p)) > BlockSize-off {
		return 0, fmt.Errorf("%s: write of %d bytes at %d is not of whole sectors within the block", f.path, len(p), off)
	}
	n, err := f.write(p, off, unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) {
		n, err = f.write(p, off, 0)
	}
	return n, err
}

func (f *file) write(p []byte, off int64, flags int) (int, error) {
	h, err := f.open(os.O_WRONLY | flags)
	if err != nil {
		return 0, err
	}
	n, err := h.WriteAt(p, off)
	if err == nil {
		err = unix.Fdatasync(int(h.Fd()))
	}
	return n, errors.Join(err, h.Close())
}

// Flush implements bootloader.Block: it makes durable what any process wrote.
func (f *file) Flush() error {
	h, err := f.open(os.O_WRONLY)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fdatasync(int(h.Fd())), h.Close())
}
