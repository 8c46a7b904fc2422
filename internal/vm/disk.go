package vm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

const (
	mib    = 1 << 20
	sector = 512
)

// Partition is one partition of a disk that Make makes.
type Partition struct {
	Label string            // in the partition table
	Type  string            // sgdisk's short type code
	MiB   int               // size
	Files map[string][]byte // content of a FAT file system; nil: none is made
	Raw   []byte            // content of the partition without one
	Image string            // file with that content
}

// Make writes to path a sparse disk image with the given partitions, the first one at 1
// MiB. work is a directory for what is needed on the way.
func Make(path, work string, parts []Partition) error {
	total := 2 // table in front and behind
	args := []string{"-a", "2048"}
	for i, p := range parts {
		n := strconv.Itoa(i + 1)
		args = append(args, "-n", fmt.Sprintf("%s:0:+%dM", n, p.MiB), "-t", n+":"+p.Type, "-c", n+":"+p.Label)
		total += p.MiB
	}
	disk, err := os.Create(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := disk.Truncate(int64(total) * mib); err != nil {
		return err
	}
	if err := run("sgdisk", append(args, path)...); err != nil {
		return err
	}
	at := int64(mib)
	for _, p := range parts {
		if p.Files != nil {
			image := filepath.Join(work, p.Label+".fat")
			if err := MakeFAT(image, work, p.MiB, p.Files); err != nil {
				return fmt.Errorf("partition %s: %w", p.Label, err)
			}
			p.Image = image
		}
		if p.Image != "" {
			if err := put(disk, at, p.Image); err != nil {
				return fmt.Errorf("partition %s: %w", p.Label, err)
			}
		}
		if _, err := disk.WriteAt(p.Raw, at); err != nil {
			return err
		}
		at += int64(p.MiB) * mib
	}
	return disk.Close()
}

// MakeFAT makes the file image, a FAT file system of a size that holds the given files.
// The same files make the same image.
func MakeFAT(image, work string, size int, files map[string][]byte) error {
	tree := filepath.Join(work, filepath.Base(image)+".tree")
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(image, int64(size)*mib); err != nil {
		return err
	}
	args := []string{"--invariant", "-n", "TWINKEEL"}
	if size >= 16 && size < 32 {
		// GRUB asks the BIOS for one cluster at a time. With mkfs.vfat's own size of 2 KiB,
		// reading the kernel is most of what a boot in an emulator costs.
		args = append(args, "-s", "64")
	}
	if err := run("mkfs.vfat", append(args, image)...); err != nil {
		return err
	}
	entries, err := filepath.Glob(filepath.Join(tree, "*"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := run("mcopy", "-s", "-i", image, e, "::"); err != nil {
			return err
		}
	}
	return os.RemoveAll(tree)
}

// put copies the file from into disk at off, leaving out blocks of zeros, so that the
// image stays sparse.
func put(disk *os.File, off int64, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	b, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(f, b)
		if string(b[:n]) != string(zero[:n]) {
			if _, err := disk.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}

// Clone copies a disk image, sparsely.
func Clone(from, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := f.Truncate(st.Size()); err != nil {
		return err
	}
	if err := put(f, 0, from); err != nil {
		return err
	}
	return f.Close()
}
