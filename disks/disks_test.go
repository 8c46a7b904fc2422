package disks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// memory is a disk in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func TestTheTableIsTheOneThatHostsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []partition
		for _, label := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé]{1,36}`), 1, 12, rapid.ID[string]).Draw(t, "labels") {
			parts = append(parts, partition{label: label, kind: typeLinux, size: rapid.Int64Range(1, 4).Draw(t, "size") * mib})
		}
		size, sector := arrange(parts), rapid.SampledFrom([]int64{sector, large}).Draw(t, "sector")
		disk := make(memory, size)
		if err := writeTable(disk, size, sector, parts, []byte("seed")); err != nil {
			t.Fatal(err)
		}
		damaged := rapid.Bool().Draw(t, "the first copy is damaged")
		if damaged {
			clear(disk[sector : 2*sector])
		}
		got, err := partitions.ReadGPT(bytes.NewReader(disk), size, sector)
		if err != nil || len(got) != len(parts) {
			t.Fatalf("got %v, %v", got, err)
		}
		ids := map[string]bool{}
		for i, p := range got {
			if p.Name != parts[i].label || p.Start != parts[i].start || p.Size != parts[i].size || ids[p.UUID] {
				t.Errorf("partition %d: got %+v, want %+v", i+1, p, parts[i])
			}
			ids[p.UUID] = true
		}
	})
}

func TestTheTableIsSoundForSgdisk(t *testing.T) {
	requireTools(t, "sgdisk")
	parts := []partition{{label: "bios", kind: typeBIOSBoot, size: mib}, {label: "esp", kind: typeESP, size: 2 * mib}, {label: "data", kind: typeLinux, size: mib}}
	size := arrange(parts)
	disk := make(memory, size)
	if err := writeTable(disk, size, sector, parts, []byte("seed")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{"-v": "No problems found", "-i1": "BIOS boot partition", "-i2": "EFI system partition", "-i3": "Partition name: 'data'"} {
		if out, err := exec.Command("sgdisk", args, path).CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("sgdisk %s: %v, want %q\n%s", args, err, want, out)
		}
	}
}

func TestPartitionsThatDoNotFitAreRefused(t *testing.T) {
	for name, p := range map[string]partition{
		"too long a name": {label: strings.Repeat("x", 37), kind: typeLinux, start: mib, size: mib},
		"beyond the disk": {label: "x", kind: typeLinux, start: mib, size: 4 * mib},
		"of no size":      {label: "x", kind: typeLinux, start: mib},
		"of no type":      {label: "x", kind: "linux", start: mib, size: mib},
	} {
		if err := writeTable(make(memory, 4*mib), 4*mib, sector, []partition{p}, nil); err == nil {
			t.Errorf("%s: was written", name)
		}
	}
}

// requireTools skips a test for want of tools, and fails it where all have to be there.
func requireTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := find(name)
		needs.That(t, err == nil, name)
	}
}

// image returns an image of n pseudo-random blocks.
func image(n int, salt release.Salt) (Image, []byte) {
	var content []byte
	for seed := sha256.Sum256(salt); len(content) < n*release.BlockSize; seed = sha256.Sum256(seed[:]) {
		content = append(content, seed[:]...)
	}
	root, err := verity.Root(bytes.NewReader(content), int64(len(content)), salt)
	if err != nil {
		panic(err)
	}
	return Image{Size: int64(len(content)), Root: root, Salt: salt, Write: func(_ context.Context, dst WriterAt) error {
		_, err := dst.WriteAt(content, 0)
		return err
	}}, content
}

// options are those of a small disk.
func options(fs string) Options {
	root, _ := image(400, release.Salt{1})
	boot, _ := image(20, release.Salt{2})
	return Options{Loader: GRUB, Images: map[string]Image{imageRoot: root, imageBoot: boot}, Cmdline: "ro",
		Data: Data{FileSystem: fs, Config: []byte("server = \"x\"\n"), Root: []byte("{}"), Manifest: []byte("{}")}}
}

func TestSlotAHoldsTheReleaseWithItsTrees(t *testing.T) {
	requireTools(t, "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs", "debugfs")
	o := options("ext4")
	extra := t.TempDir()
	if err := os.MkdirAll(filepath.Join(extra, etcDir, "ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(extra, etcDir, "ssh/ssh_host_key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Data.Extra = extra
	path := filepath.Join(t.TempDir(), "disk.img")
	r, err := Create(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts, err := partitions.ReadGPT(f, r.Size, sector)
	if err != nil || len(parts) != 8 {
		t.Fatalf("got %v, %v", parts, err)
	}
	for _, p := range parts {
		part := make([]byte, p.Size)
		if _, err := io.ReadFull(io.NewSectionReader(f, p.Start, p.Size), part); err != nil {
			t.Fatal(err)
		}
		switch name, slot, _ := strings.Cut(p.Name, "-"); {
		case slot == "a":
			want := o.Images[name]
			again := make(memory, p.Size)
			copy(again, part[:want.Size])
			if root, err := verity.WriteTree(again, 0, want.Size, want.Salt); err != nil || root != want.Root || !bytes.Equal(again, part) {
				t.Errorf("%s: root %s, %v: is not the image with its tree", p.Name, root, err)
			}
		case slot == "b" && !allZero(part):
			t.Errorf("%s is not empty", p.Name)
		case p.Name == "data":
			checkData(t, part)
		}
	}
}

func (m memory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m[off:]), nil }

// checkData looks into the data partition as a tool does that is not ours.
func checkData(t *testing.T, part []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "data.img")
	if err := os.WriteFile(file, part, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	for name, want := range map[string]string{
		etcDir + "/twinkeel/twinkeel.toml":    "server = \"x\"\n",
		etcDir + "/twinkeel/root.json":        "{}",
		etcDir + "/ssh/ssh_host_key":          "secret",
		varDir + "/lib/twinkeel/factory.json": "{}",
	} {
		if out, err := exec.Command("debugfs", "-R", "cat "+name, file).Output(); err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
	for name, want := range map[string]string{varDir + "/lib/twinkeel": "Mode:  0700", etcDir + "/ssh/ssh_host_key": "Mode:  0600"} {
		out, err := exec.Command("debugfs", "-R", "stat "+name, file).Output()
		if err != nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "User:     0   Group:     0") {
			t.Errorf("%s: got %s, %v, want %s, of root", name, out, err, want)
		}
	}
}

func TestDataPartitionsOnOtherFileSystems(t *testing.T) {
	requireTools(t, "mkfs.vfat", "mcopy", "grub-mkimage")
	for fs, check := range map[string][]string{"xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check"}} {
		t.Run(fs, func(t *testing.T) {
			requireTools(t, fileSystems[fs].need.what, check[0])
			path := filepath.Join(t.TempDir(), "disk.img")
			r, err := Create(t.Context(), path, options(fs))
			if err != nil {
				t.Fatal(err)
			}
			disk, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			last := r.Partitions[len(r.Partitions)-1]
			file := filepath.Join(t.TempDir(), "data.img")
			if err := os.WriteFile(file, disk[last.Start:last.Start+last.Size], 0o600); err != nil {
				t.Fatal(err)
			}
			tool, err := find(check[0])
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool, append(check[1:], file)...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", check[0], err, out)
			}
			if !bytes.Contains(disk[last.Start:], []byte("twinkeel.toml")) || !bytes.Contains(disk[last.Start:], []byte("server = \"x\"\n")) {
				t.Error("the configuration is not there")
			}
		})
	}
}

func TestDisksThatWouldNotBootAreRefused(t *testing.T) {
	requireTools(t, "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs")
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"another loader":        {func(o *Options) { o.Loader = "lilo" }, "want grub or systemd-boot"},
		"no boot image":         {func(o *Options) { delete(o.Images, imageBoot) }, "boot is missing"},
		"another image":         {func(o *Options) { o.Images["extra"] = o.Images[imageBoot] }, "got 3, want root and boot"},
		"an image of no size":   {func(o *Options) { o.Images[imageRoot] = Image{} }, "image root"},
		"another file system":   {func(o *Options) { o.Data.FileSystem = "ntfs" }, "want ext4, xfs or btrfs"},
		"too small a disk":      {func(o *Options) { o.Size = 100 * mib }, "want at least"},
		"too small a partition": {func(o *Options) { o.Root = 1 }, "hash tree"},
		"a negative size":       {func(o *Options) { o.ESP = -1 }, "want 0 to"},
		"another release":       {func(o *Options) { i := o.Images[imageRoot]; i.Root[0] ^= 1; o.Images[imageRoot] = i }, "verity root: got"},
		"a broken release": {func(o *Options) {
			i := o.Images[imageRoot]
			i.Write = func(context.Context, WriterAt) error { return errors.New("torn") }
			o.Images[imageRoot] = i
		}, "torn"},
		"quotes for GRUB": {func(o *Options) { o.Cmdline = `x"; reboot "` }, "plain characters"},
	} {
		o := options("ext4")
		c.change(&o)
		if _, err := Create(t.Context(), filepath.Join(dir, "new"), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := Create(t.Context(), there, options("ext4")); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a file that is there: got %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "there" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
