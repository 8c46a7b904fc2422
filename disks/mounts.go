package disks

import (
	"archive/tar"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/twinkeel/twinkeel/internal/cpio"
	"github.com/twinkeel/twinkeel/internal/erofs"
)

// maxList bounds the list of what a kernel has built in, in bytes.
const maxList = 4 << 20

// mounts refuses a disk whose data partition slot a cannot mount: without the module, the host
// would run with nothing to keep anything on. What cannot be looked into, such as images of
// another maker, is noted instead.
func (b *builder) mounts() error {
	name := b.o.Data.FileSystem
	has, err := b.carries(name)
	if err == nil && !has {
		has, err = b.builtin(name)
	}
	switch {
	case err != nil:
		b.r.Notes = append(b.r.Notes, fmt.Sprintf("data partition: whether slot a can mount %s is not known: %v", name, err))
	case !has:
		return fmt.Errorf("file system %s: got a boot image whose kernel has it neither built in nor as a module in its initrd, want one that mounts it: "+
			"twinkeel-server image build --module %s, or another --data-fs", name, name)
	}
	return nil
}

// image returns an image as it lies in slot a.
func (b *builder) image(name string) *io.SectionReader {
	return io.NewSectionReader(b.disk, b.part(name+"-a").start, b.o.Images[name].Size)
}

// carries reports whether the initrd of the boot image holds a module.
func (b *builder) carries(module string) (has bool, err error) {
	initrd, err := initrd(b.image(imageBoot))
	if err != nil {
		return false, fmt.Errorf("boot image: %w", err)
	}
	end, err := cpio.Walk(initrd, initrd.Size(), func(name string) {
		// Ours are called NNN-NAME.ko; a distribution's have a directory, and may be compressed.
		name, _, isModule := strings.Cut(path.Base(name), ".ko")
		if number, rest, ok := strings.Cut(name, "-"); ok && strings.Trim(number, "0123456789") == "" {
			name = rest
		}
		has = has || isModule && name == module
	})
	if err == nil && !has && end < initrd.Size() {
		err = fmt.Errorf("got something else than an archive at byte %d, want it unpacked", end)
	}
	if err != nil {
		return false, fmt.Errorf("initrd: %w", err)
	}
	return has, nil
}

// initrd returns the initrd of a boot image as image build makes it: in an archive, or as a
// section of a unified kernel image.
func initrd(boot *io.SectionReader) (*io.SectionReader, error) {
	magic := make([]byte, 2)
	if _, err := boot.ReadAt(magic, 0); err != nil {
		return nil, err
	}
	if string(magic) == "MZ" {
		f, err := pe.NewFile(boot)
		if err != nil {
			return nil, err
		}
		s := f.Section(".initrd")
		if s == nil {
			return nil, errors.New("got a kernel image without section .initrd")
		}
		return io.NewSectionReader(s, 0, int64(min(s.VirtualSize, s.Size))), nil
	}
	for archive := tar.NewReader(boot); ; {
		h, err := archive.Next()
		if err != nil {
			return nil, fmt.Errorf("got no archive with initrd.img: %w", err)
		}
		if h.Name != "initrd.img" {
			continue
		}
		at, err := boot.Seek(0, io.SeekCurrent) // the reader does not read ahead
		if err != nil {
			return nil, err
		}
		return io.NewSectionReader(boot, at, h.Size), nil
	}
}

// builtin reports whether the kernel has a module built in, by the list that comes with its
// modules in the root image.
func (b *builder) builtin(module string) (has bool, err error) {
	root, found := b.image(imageRoot), false
	err = erofs.Walk(root, root.Size(), func(f erofs.File) error {
		if path.Base(f.Path) != "modules.builtin" || !strings.Contains("/"+f.Path, "/lib/modules/") {
			return nil
		}
		if f.Compressed || f.Size > maxList {
			return fmt.Errorf("/%s: got %d bytes, compressed %t, want at most %d, and not compressed", f.Path, f.Size, f.Compressed, maxList)
		}
		found = true
		var list []byte
		for _, e := range f.Extents {
			if e.Length < 0 || e.Length > f.Size-int64(len(list)) {
				return fmt.Errorf("/%s: got more than its %d bytes", f.Path, f.Size)
			}
			part := make([]byte, e.Length)
			if _, err := root.ReadAt(part, e.Offset); err != nil {
				return err
			}
			list = append(list, part...)
		}
		for line := range strings.Lines(string(list)) {
			has = has || path.Base(strings.TrimSpace(line)) == module+".ko"
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("got no list modules.builtin")
	}
	if err != nil {
		return false, fmt.Errorf("root image: %w", err)
	}
	return has, nil
}
