package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/internal/cpio"
	"github.com/twinkeel/twinkeel/release"
)

// The most that a kernel or an initrd may be, packed or unpacked.
const maxBoot = 1 << 30

// kernel is what a machine starts.
type kernel struct {
	version       string
	image, initrd []byte
}

// kernel takes kernel and initrd out of the tree's /boot, which is empty then.
func (b *build) kernel(ctx context.Context) (k kernel, err error) {
	for _, name := range b.tree.Names("boot") {
		version, ok := strings.CutPrefix(name, "vmlinuz-")
		if !ok {
			continue
		}
		if k.version != "" {
			return k, fmt.Errorf("/boot: got kernels %s and %s, want one", k.version, version)
		}
		k.version = version
	}
	if k.version == "" {
		return k, errors.New("/boot: got no vmlinuz-VERSION, want one")
	}
	if k.image, err = b.content("boot/vmlinuz-" + k.version); err != nil {
		return k, err
	}
	// Some architectures' kernels are only a compressed file, which no loader has to unpack.
	if k.image, err = unpack(ctx, k.image, "gzip"); err != nil {
		return k, fmt.Errorf("kernel: %w", err)
	}
	_, first := b.tree.Lookup(FirstStage)
	if first {
		// Where it moves the data partition and the boot record to, whatever initrd starts it.
		for _, dir := range []string{"data", "boot"} {
			if err := b.parents(dir); err != nil {
				return k, err
			}
		}
	}
	switch {
	case b.o.Initrd != "":
		k.initrd, err = readFile(b.o.Initrd)
	case first:
		b.r.FirstStage = true
		k.initrd, err = b.firstStage(ctx, k.version)
	default:
		k.initrd, err = b.content("boot/initrd.img-" + k.version)
	}
	if err != nil {
		return k, err
	}
	if k.initrd, err = unpackInitrd(ctx, k.initrd); err != nil {
		return k, fmt.Errorf("initrd: %w", err)
	}
	for _, name := range b.tree.Names("boot") {
		b.tree.Remove("boot/" + name)
	}
	for _, link := range []string{"vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"} {
		b.tree.Remove(link)
	}
	b.r.Kernel = k.version
	b.noteModules(k.version)
	return k, nil
}

// noteModules warns of modules that a delta cannot see into.
func (b *build) noteModules(version string) {
	var count func(dir string) int
	count = func(dir string) (n int) {
		for _, name := range b.tree.Names(dir) {
			if node, ok := b.tree.Lookup(dir + "/" + name); ok && node.IsDir() {
				n += count(dir + "/" + name)
			}
			if i := strings.LastIndex(name, ".ko."); i >= 0 {
				n++
			}
		}
		return n
	}
	if n := count("usr/lib/modules/"+version) + count("lib/modules/"+version); n > 0 {
		b.r.Notes = append(b.r.Notes, fmt.Sprintf("%d kernel modules are compressed: every delta carries those that changed whole; unpack them and run depmod", n))
	}
}

// content returns a file of the tree.
func (b *build) content(name string) ([]byte, error) {
	n, ok := b.tree.Lookup(name)
	if !ok || n.Content == nil {
		return nil, fmt.Errorf("/%s: is not there, or no file", name)
	}
	if n.Size > maxBoot {
		return nil, fmt.Errorf("/%s: got %d bytes, want at most %d", name, n.Size, maxBoot)
	}
	r, err := n.Content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, n.Size))
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBoot+1))
	if err == nil && len(b) > maxBoot {
		err = fmt.Errorf("%s: got more than %d bytes", path, maxBoot)
	}
	return b, err
}

// Compressed data is known by how it begins; the programs unpack what Go cannot.
var compressions = []struct {
	magic   string
	name    string
	program []string
}{
	{"\x1f\x8b", "gzip", nil},
	{"\x28\xb5\x2f\xfd", "zstd", []string{"zstd", "-dcq"}},
	{"\xfd7zXZ\x00", "xz", []string{"xz", "-dcq"}},
	{"\x02\x21\x4c\x18", "lz4", []string{"lz4", "-dcq"}},
	{"\x04\x22\x4d\x18", "lz4", []string{"lz4", "-dcq"}},
	{"BZh", "bzip2", []string{"bzip2", "-dcq"}},
}

// unpack returns b unpacked, if it is compressed in one of the given ways, or any.
func unpack(ctx context.Context, b []byte, only ...string) ([]byte, error) {
	for _, c := range compressions {
		if !bytes.HasPrefix(b, []byte(c.magic)) || len(only) > 0 && only[0] != c.name {
			continue
		}
		if c.program == nil {
			r, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			return bounded(r)
		}
		cmd := exec.CommandContext(ctx, c.program[0], c.program[1:]...)
		cmd.Stdin = bytes.NewReader(b)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("it is compressed with %s: %w", c.name, err)
		}
		plain, err := bounded(out)
		if err != nil {
			_ = cmd.Process.Kill() // the error that counts is there already
		}
		if werr := cmd.Wait(); err == nil && werr != nil {
			err = fmt.Errorf("%s: %w: %.200s", c.name, werr, stderr.Bytes())
		}
		return plain, err
	}
	return b, nil
}

func bounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBoot+1))
	if err == nil && len(b) > maxBoot {
		err = fmt.Errorf("unpacks to more than %d bytes", maxBoot)
	}
	return b, err
}

// unpackInitrd unpacks an initrd: cpio archives for the boot processor's microcode, plain,
// and then the one that may be compressed. Source: linux/Documentation/driver-api/
// early-userspace/buffer-format.rst.
func unpackInitrd(ctx context.Context, b []byte) ([]byte, error) {
	n, err := cpio.Walk(bytes.NewReader(b), int64(len(b)), func(string) {})
	if err != nil {
		return nil, err
	}
	rest, err := unpack(ctx, b[n:])
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 && !bytes.HasPrefix(rest, []byte(cpio.Magic)) {
		return nil, fmt.Errorf("got %.6q at byte %d, want a cpio archive, plain or compressed", rest, n)
	}
	return append(b[:n:n], rest...), nil
}

// boot writes the boot image.
func (b *build) boot(ctx context.Context, w io.Writer, k kernel) error {
	if b.o.Loader == SDBoot {
		return b.unified(ctx, w, k)
	}
	counted := &counter{w: w}
	t := tar.NewWriter(counted)
	for _, f := range []struct {
		name    string
		content []byte
	}{{"vmlinuz", k.image}, {"initrd.img", k.initrd}} {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: b.o.Time, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.content); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	_, err := counted.Write(make([]byte, -counted.n&(release.BlockSize-1)))
	return err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// stub is what makes an EFI application of a kernel, an initrd and a command line.
const stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// The places in memory of what comes behind the stub; the kernel is unpacked over what
// follows, so that the initrd keeps a distance. Source: Debian's ukify and objcopy(1) in
// systemd-stub(7).
const (
	cmdlineAt = 0x30000
	linuxAt   = 0x2000000
	placeStep = 0x1000000
)

// amd64 is the machine of the stub, as an EFI application names it.
const amd64 = 0x8664

// machineOf returns the machine of a kernel that is an EFI application, too, and 0 of any
// other. Source: PE Format, "COFF File Header".
func machineOf(image []byte) uint16 {
	const offsetAt, machineAt = 0x3c, 4
	if len(image) < offsetAt+4 || string(image[:2]) != "MZ" {
		return 0
	}
	pe := uint64(binary.LittleEndian.Uint32(image[offsetAt:]))
	if pe+machineAt+2 > uint64(len(image)) || string(image[pe:pe+4]) != "PE\x00\x00" {
		return 0
	}
	return binary.LittleEndian.Uint16(image[pe+machineAt:])
}

// unified writes a unified kernel image.
func (b *build) unified(ctx context.Context, w io.Writer, k kernel) error {
	if m := machineOf(k.image); m != 0 && m != amd64 {
		return fmt.Errorf("kernel %s is for machine %#x: unified kernel images are made for amd64 (%#x) only; --loader grub takes any", k.version, m, amd64)
	}
	dir, err := os.MkdirTemp("", "twinkeel-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	initrdAt := (linuxAt + len(k.image) + placeStep) / placeStep * placeStep
	var args []string
	for _, s := range []struct {
		name    string
		content []byte
		at      int
	}{{".cmdline", []byte(b.o.Cmdline), cmdlineAt}, {".linux", k.image, linuxAt}, {".initrd", k.initrd, initrdAt}} {
		file := filepath.Join(dir, s.name)
		if err := os.WriteFile(file, s.content, 0o600); err != nil {
			return err
		}
		args = append(args, "--add-section", s.name+"="+file, "--change-section-vma", fmt.Sprintf("%s=%#x", s.name, s.at))
	}
	out := filepath.Join(dir, "image.efi")
	cmd := exec.CommandContext(ctx, "objcopy", append(args, stub, out)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.o.Time.Unix(), 10))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("objcopy (packages binutils and systemd-boot-efi): %w: %.500s", err, said)
	}
	image, err := readFile(out)
	if err != nil || len(image) < 0x40 {
		return fmt.Errorf("unified kernel image: got %d bytes: %w", len(image), err)
	}
	if err := settle(image, b.o.Time); err != nil {
		return err
	}
	_, err = w.Write(append(image, make([]byte, -len(image)&(release.BlockSize-1))...))
	return err
}

// settle puts the time of the build where objcopy writes today's, and leaves out the checksum
// over it, which UEFI does not look at. Source: PE Format, "COFF File Header" and "Optional
// Header Windows-Specific Fields".
func settle(image []byte, at time.Time) error {
	const offsetAt, timeAt, checksumAt = 0x3c, 8, 24 + 64
	pe := int(binary.LittleEndian.Uint32(image[offsetAt:]))
	if pe < offsetAt || pe > len(image)-checksumAt-4 {
		return fmt.Errorf("unified kernel image: got its header at %d of %d bytes", pe, len(image))
	}
	binary.LittleEndian.PutUint32(image[pe+timeAt:], uint32(at.Unix()))
	binary.LittleEndian.PutUint32(image[pe+checksumAt:], 0)
	return nil
}
