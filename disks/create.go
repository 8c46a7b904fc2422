package disks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// The boot loaders.
const (
	GRUB   = "grub"         // BIOS and UEFI
	SDBoot = "systemd-boot" // UEFI
)

// The images of a slot that a disk has partitions for.
const (
	imageRoot = "root"
	imageBoot = "boot"
)

// Image is what a partition of slot a holds.
type Image struct {
	Size int64          // bytes, a multiple of release.BlockSize
	Root release.Digest // verity root; zero if nobody said
	Salt release.Salt
	// Write writes the image to dst, from its start on and in any order.
	Write func(ctx context.Context, dst WriterAt) error
}

// WriterAt is a range of the disk.
type WriterAt interface {
	io.Writer
	io.WriterAt
}

// Options describe a disk.
type Options struct {
	Version release.Version
	Images  map[string]Image // root and boot
	Loader  string           // GRUB or SDBoot
	Cmdline string           // what follows on the kernel's command line; only GRUB takes it from here
	Data    Data
	// Sizes in bytes, rounded up to whole MiB. 0 means: twice the image for Root and Boot,
	// what the loader needs for ESP, what is left for Data.Size, and the sum for Size.
	Size, ESP, Root, Boot int64
	// Sector is the size of the disk's logical sectors in bytes, 512 or 4096; 0 means 512. No
	// BIOS starts a disk with 4096.
	Sector int64
	// Progress is told what is being done.
	Progress func(step string, done, total int64)
}

// Result says what a disk became.
type Result struct {
	Path       string             `json:"path"`
	Size       int64              `json:"size"`
	Loader     string             `json:"loader"`
	Version    release.Version    `json:"version"`
	Partitions []ResultPartition  `json:"partitions"`
	Roots      map[string]digests `json:"images"`
	Notes      []string           `json:"notes,omitempty"` // what could not be checked
}

// ResultPartition is a partition of a Result.
type ResultPartition struct {
	Label string `json:"label"`
	Start int64  `json:"start"` // bytes
	Size  int64  `json:"size"`  // bytes
}

type digests struct {
	Root release.Digest `json:"root"`
	Size int64          `json:"size"`
}

// builder is a disk that is being made.
type builder struct {
	o     Options
	disk  *os.File
	work  string
	parts []partition
	r     Result
}

// Create makes the file path, which must not exist, the disk that o describes.
func Create(ctx context.Context, path string, o Options) (r *Result, err error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Sector == 0 {
		o.Sector = sector
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("disk %s: is there already", path)
	}
	if err := o.tools(); err != nil {
		return nil, err
	}
	// Beside the result, where there is room for what it is made of.
	work, err := os.MkdirTemp(filepath.Dir(path), ".twinkeel-disk-")
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &builder{o: o, work: work}
	partial := filepath.Join(work, "disk")
	if b.disk, err = os.Create(partial); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	defer b.disk.Close()
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(b.disk.Sync(), b.disk.Close()); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	b.r.Path = path
	return &b.r, os.Rename(partial, path)
}

// check refuses options that make no disk that boots.
func (o *Options) check() error {
	if o.Loader != GRUB && o.Loader != SDBoot {
		return fmt.Errorf("boot loader: got %.40q, want %s or %s", o.Loader, GRUB, SDBoot)
	}
	if o.Sector != sector && o.Sector != large {
		return fmt.Errorf("sectors: got %d bytes, want %d or %d", o.Sector, sector, large)
	}
	for _, name := range []string{imageRoot, imageBoot} {
		image, ok := o.Images[name]
		if !ok {
			return fmt.Errorf("images: %s is missing: a disk boots from the images root and boot", name)
		}
		if err := verity.CheckSize(image.Size); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	if len(o.Images) != 2 {
		return fmt.Errorf("images: got %d, want root and boot", len(o.Images))
	}
	return o.Data.check()
}

// build writes everything into b.disk.
func (b *builder) build(ctx context.Context) error {
	size, err := b.plan()
	if err != nil {
		return err
	}
	if err := b.disk.Truncate(size); err != nil {
		return fmt.Errorf("disk of %d bytes: %w", size, err)
	}
	seed := sha256.New()
	for _, name := range []string{imageRoot, imageBoot} {
		d, err := b.fill(ctx, name)
		if err != nil {
			return fmt.Errorf("slot a, image %s: %w", name, err)
		}
		b.r.Roots[name] = d
		seed.Write(d.Root[:])
	}
	if err := b.mounts(); err != nil {
		return fmt.Errorf("data partition: %w", err)
	}
	if err := writeTable(b.disk, size, b.o.Sector, b.parts, seed.Sum(nil)); err != nil {
		return err
	}
	b.o.Progress("boot loader", 0, 0)
	switch b.o.Loader {
	case GRUB:
		err = b.grub(ctx)
	case SDBoot:
		err = b.systemdBoot(ctx)
	}
	if err != nil {
		return fmt.Errorf("boot loader %s: %w", b.o.Loader, err)
	}
	b.o.Progress("data partition", 0, 0)
	if err := b.data(ctx); err != nil {
		return fmt.Errorf("data partition: %w", err)
	}
	return nil
}

// fill writes an image of slot a and its hash tree, and reads it back.
func (b *builder) fill(ctx context.Context, name string) (digests, error) {
	image, at := b.o.Images[name], b.part(name+"-a")
	if need := image.Size + verity.TreeSize(image.Size); need > at.size {
		return digests{}, fmt.Errorf("partition: got %d bytes, want at least %d for the image and its hash tree", at.size, need)
	}
	dst := sparse{io.NewOffsetWriter(b.disk, at.start)}
	if err := image.Write(ctx, dst); err != nil {
		return digests{}, err
	}
	b.o.Progress("verify "+name, 0, 0)
	root, err := verity.WriteTree(b.disk, at.start, image.Size, image.Salt)
	if err != nil {
		return digests{}, err
	}
	if !image.Root.IsZero() && root != image.Root {
		return digests{}, fmt.Errorf("verity root: got %s, want %s", root, image.Root)
	}
	return digests{root, image.Size}, nil
}

// description is what the boot record says of slot a.
func (b *builder) description() bootloader.Description {
	root := b.o.Images[imageRoot]
	d := bootloader.Description{Version: b.o.Version, Root: b.r.Roots[imageRoot].Root, Salt: root.Salt, HashOffset: root.Size,
		Images: map[string]release.Digest{}}
	for name, i := range b.r.Roots {
		d.Images[name] = i.Root
	}
	return d
}

// record is the boot record of a new disk: slot a is committed, b is empty.
func (b *builder) record() (bootloader.State, map[partitions.Slot]bootloader.Description) {
	return bootloader.State{}.Commit(partitions.A), map[partitions.Slot]bootloader.Description{partitions.A: b.description()}
}

// sparse leaves out blocks of zeros, which a new file has anyway.
type sparse struct{ *io.OffsetWriter }

// WriteAt implements io.WriterAt.
func (s sparse) WriteAt(p []byte, off int64) (int, error) {
	const block = 64 << 10
	for at := 0; at < len(p); at += block {
		part := p[at:min(at+block, len(p))]
		if allZero(part) {
			continue
		}
		if n, err := s.OffsetWriter.WriteAt(part, off+int64(at)); err != nil {
			return at + n, err
		}
	}
	return len(p), nil
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}
