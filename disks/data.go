package disks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Data is the data partition. Beside what the fields say it is empty.
type Data struct {
	FileSystem string // ext4, xfs or btrfs
	Size       int64  // bytes
	Config     []byte // /etc/twinkeel/twinkeel.toml
	Root       []byte // /etc/twinkeel/root.json; nil: the image has one
	Manifest   []byte // of the release in slot a; nil: the host adopts it as unknown
	Extra      string // directory whose content is added; "": none
}

// The directories on the data partition that stand for /etc and /var of both slots.
// Source: docs/format-boot.md, "What it does".
const (
	etcDir = "twinkeel/identity"
	varDir = "twinkeel/var/upper"
)

// fileSystem is a way to make one that holds a tree.
type fileSystem struct {
	need  need
	least int64 // bytes
	make  func(ctx context.Context, b *builder, image, tree string) error
}

var fileSystems = map[string]fileSystem{
	"ext4": {need{"mke2fs", "e2fsprogs"}, minData, func(ctx context.Context, _ *builder, image, tree string) error {
		return MakeExt4(ctx, image, tree)
	}},
	// xfsprogs refuse less than 300 MiB.
	"xfs": {need{"mkfs.xfs", "xfsprogs"}, 320 * mib, func(ctx context.Context, b *builder, image, tree string) error {
		proto, err := prototype(tree)
		if err != nil {
			return err
		}
		file := filepath.Join(b.work, "prototype")
		if err := write(file, []byte(proto), 0o600); err != nil {
			return err
		}
		return run(ctx, "mkfs.xfs", "-q", "-L", "data", "-s", fmt.Sprintf("size=%d", b.o.Sector), "-p", file, image)
	}},
	"btrfs": {need{"mkfs.btrfs", "btrfs-progs"}, 128 * mib, func(ctx context.Context, _ *builder, image, tree string) error {
		return run(ctx, "mkfs.btrfs", "-q", "-L", "data", "--rootdir", tree, image)
	}},
}

// MakeExt4 makes an ext4 for a data partition that holds a tree, in a file that has its size.
func MakeExt4(ctx context.Context, image, tree string) error {
	// Without metadata_csum, and with it checksums of the journal: where a power cut tears its
	// commit block of 4 KiB on a disk of 512-byte sectors, Linux 6.1 would refuse the file system
	// until somebody runs e2fsck (6.18 goes on). Without them the block counts by its first sector.
	return run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-I", "256", "-b", "4096", "-L", "data", "-E", "root_owner=0:0,lazy_itable_init=0",
		"-O", "has_journal,extent,huge_file,flex_bg,^metadata_csum,64bit,dir_nlink,extra_isize,filetype,sparse_super,large_file,resize_inode,dir_index,ext_attr", "-d", tree, image)
}

func (d *Data) check() error {
	if _, ok := fileSystems[d.FileSystem]; !ok {
		return fmt.Errorf("data partition: file system: got %.20q, want ext4, xfs or btrfs", d.FileSystem)
	}
	return nil
}

// least is the smallest size.
func (d *Data) least() int64 { return fileSystems[d.FileSystem].least }

// data makes the data partition.
func (b *builder) data(ctx context.Context) error {
	d, tree := b.o.Data, filepath.Join(b.work, "data")
	state := filepath.Join(tree, varDir, "lib/twinkeel")
	if err := os.MkdirAll(filepath.Join(tree, etcDir, "twinkeel"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	if d.Extra != "" {
		if err := copyTree(d.Extra, tree); err != nil {
			return fmt.Errorf("files to add: %w", err)
		}
	}
	for _, f := range []struct {
		name string
		b    []byte
		mode os.FileMode
	}{
		{filepath.Join(etcDir, "twinkeel/twinkeel.toml"), d.Config, 0o644},
		{filepath.Join(etcDir, "twinkeel/root.json"), d.Root, 0o644},
		{filepath.Join(varDir, "lib/twinkeel/factory.json"), d.Manifest, 0o600},
	} {
		if f.b == nil {
			continue
		}
		if err := write(filepath.Join(tree, f.name), f.b, f.mode); err != nil {
			return err
		}
	}
	at := b.part("data")
	image, err := b.allocate("data.img", at.size)
	if err != nil {
		return err
	}
	if err := fileSystems[d.FileSystem].make(ctx, b, image, tree); err != nil {
		return err
	}
	return b.put(image, at.start)
}

// copyTree adds the files, directories and links in from to those in to, with their modes.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			if err := os.Mkdir(at, info.Mode().Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return nil
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			// Also if it is one of ours, or the umask is strict.
			return errors.Join(os.WriteFile(at, b, info.Mode().Perm()), os.Chmod(at, info.Mode().Perm()))
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		}
		return fmt.Errorf("file %s: got %v, want a file, directory or link", rel, e.Type())
	})
}

// prototype describes a tree for mkfs.xfs -p: everything belongs to root. Source:
// mkfs.xfs(8), "proto_options".
func prototype(tree string) (string, error) {
	var s strings.Builder
	s.WriteString("/none\n0 0\n")
	depth := -1 // of the directory whose entries are being written
	err := filepath.WalkDir(tree, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(tree, p)
		if err != nil {
			return err
		}
		level := strings.Count(rel, "/")
		if rel == "." {
			level = -1
		}
		for ; depth > level; depth-- {
			s.WriteString("$\n")
		}
		if strings.ContainsAny(rel, " \t\n") {
			return fmt.Errorf("file %q: mkfs.xfs takes no names with spaces", rel)
		}
		name := path.Base(rel) + " "
		if rel == "." {
			name = ""
		}
		mode := info.Mode().Perm()
		switch {
		case e.IsDir():
			fmt.Fprintf(&s, "%sd--%03o 0 0\n", name, mode)
			depth = level + 1
		case info.Mode().IsRegular():
			fmt.Fprintf(&s, "%s---%03o 0 0 %s\n", name, mode, p)
		case e.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&s, "%sl--%03o 0 0 %s\n", name, mode, to)
		default:
			return fmt.Errorf("file %s: got %v, want a file, directory or link", rel, e.Type())
		}
		return nil
	})
	for ; depth > -1; depth-- {
		s.WriteString("$\n")
	}
	s.WriteString("$\n")
	return s.String(), err
}
