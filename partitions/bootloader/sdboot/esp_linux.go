package sdboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
)

// Source opens the image with the unified kernel image of a slot, for reading.
type Source func(partitions.Slot) (partitions.OpenDevice, error)

// Open returns the loader whose entries lie in the file system that is mounted at esp.
func Open(esp string, kernels Source, kernel running.Kernel) (*Loader, error) {
	f, err := Files(esp)
	if err != nil {
		return nil, err
	}
	return New(f.Entries, f.Record, f.Kernels(kernels), kernel), nil
}

// FileSystem is what lies in the file system that the loader reads, for New and Create.
type FileSystem struct {
	Entries Directory
	Record  *record.File
	dir     string
}

// RecordPath is where the record lies below the file system's root: by it a host is told
// to boot by this package.
const RecordPath = dirName + "/record"

// Files returns what lies in the file system that is mounted at esp.
func Files(esp string) (FileSystem, error) {
	entries := directory(filepath.Join(esp, "loader/entries"))
	if _, err := entries.List(); err != nil {
		return FileSystem{}, fmt.Errorf("boot entries: %w", err)
	}
	r, err := record.OpenFile(filepath.Join(esp, RecordPath), record.Size)
	if err != nil {
		return FileSystem{}, err
	}
	return FileSystem{entries, r, filepath.Join(esp, dirName)}, nil
}

// MakeFiles makes the directories, the record and, if there is none, a configuration of
// the loader that starts our entries, for Create.
func MakeFiles(esp string) (FileSystem, error) {
	for _, dir := range []string{"loader", "loader/entries", dirName} {
		if err := os.Mkdir(filepath.Join(esp, dir), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return FileSystem{}, fmt.Errorf("boot entries: %w", err)
		}
	}
	for dir, content := range map[string]struct {
		name string
		b    []byte
	}{
		dirName:  {"record", make([]byte, record.Size)},
		"loader": {"loader.conf", []byte("timeout 0\ndefault " + prefix + "*\n")},
	} {
		err := directory(filepath.Join(esp, dir)).Make(content.name, content.b)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return FileSystem{}, fmt.Errorf("boot entries: %w", err)
		}
	}
	return Files(esp)
}

// Kernels returns the place of the kernels, which are copied from source.
func (f FileSystem) Kernels(source Source) Kernels { return &kernels{f.dir, source} }

// directory is a Directory in a mounted file system.
type directory string

// List implements Directory.
func (d directory) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Read implements Directory.
func (d directory) Read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxEntry))
	return b, errors.Join(err, f.Close())
}

// Make implements Directory.
func (d directory) Make(name string, content []byte) error {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), d.sync())
}

// Write implements Directory.
func (d directory) Write(name string, p []byte, off int64) error {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(p, off)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Remove implements Directory.
func (d directory) Remove(name string) error {
	return errors.Join(os.Remove(filepath.Join(string(d), name)), d.sync())
}

func (d directory) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// kernels are the copies of the slots' kernels in a mounted file system.
type kernels struct {
	dir    string
	source Source
}

// Cmdline implements Kernels.
func (k *kernels) Cmdline(slot partitions.Slot) (string, error) {
	f, err := os.Open(filepath.Join(k.dir, kernelFile(slot)))
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	head := make([]byte, headerSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	img, err := parseImage(head, st.Size())
	if err != nil {
		return "", err
	}
	return img.readCmdline(f)
}

// chunk is how much of a kernel is copied at a time.
const chunk = 1 << 20

// Place implements Kernels. It writes over the former copy in place, so that a power cut
// loses no clusters of the file system, and reads back what the disk holds. The first
// sector, without which it is no image, is written last.
func (k *kernels) Place(ctx context.Context, slot partitions.Slot) error {
	dev, err := k.source(slot)
	if err != nil {
		return err
	}
	defer dev.Close()
	head := partitions.AlignedBuffer(headerSize)
	if _, err := dev.ReadAt(head, 0); err != nil {
		return err
	}
	img, err := parseImage(head, dev.Size())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(k.dir, kernelFile(slot)), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeSync(f, make([]byte, sector)); err != nil {
		return err
	}
	err = each(ctx, dev, img.size, func(p []byte, off int64) error {
		skip := max(sector-off, 0)
		_, err := f.WriteAt(p[skip:], off+skip)
		return err
	})
	if err := errors.Join(err, f.Truncate(img.size), f.Sync(), directory(k.dir).sync()); err != nil {
		return err
	}
	if err := writeSync(f, head[:sector]); err != nil {
		return err
	}
	return same(ctx, f, dev, img.size)
}

// writeSync durably replaces the front of a file.
func writeSync(f *os.File, p []byte) error {
	if _, err := f.WriteAt(p, 0); err != nil {
		return err
	}
	return f.Sync()
}

// same checks that the disk under f holds what dev does.
func same(ctx context.Context, f *os.File, dev partitions.Device, size int64) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	back := make([]byte, chunk)
	return each(ctx, dev, size, func(p []byte, off int64) error {
		if _, err := f.ReadAt(back[:len(p)], off); err != nil {
			return err
		}
		if !bytes.Equal(p, back[:len(p)]) {
			return fmt.Errorf("%s: differs from the slot within %d bytes from %d", f.Name(), len(p), off)
		}
		return nil
	})
}

// each hands the first size bytes of dev to do, piece by piece.
func each(ctx context.Context, dev partitions.Device, size int64, do func(p []byte, off int64) error) error {
	b := partitions.AlignedBuffer(chunk)
	for off := int64(0); off < size; off += chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, dev.Size()-off)
		if _, err := dev.ReadAt(b[:n], off); err != nil && err != io.EOF {
			return err
		}
		if err := do(b[:min(n, size-off)], off); err != nil {
			return err
		}
	}
	return nil
}
