package disks

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/images"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// built makes images of a tree, and returns them with options for a disk of them.
func built(t *testing.T, tree string, o images.Options) Options {
	t.Helper()
	o.Source, o.Output, o.Time = tree, t.TempDir(), time.Unix(1, 0)
	r, err := images.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	version, err := release.ParseVersion("1.0")
	if err != nil {
		t.Fatal(err)
	}
	disk := Options{Version: version, Loader: o.Loader, Cmdline: "ro", Images: map[string]Image{}, Data: Data{FileSystem: "ext4"}}
	for name, i := range r.Images {
		b, err := os.ReadFile(i.Path)
		if err != nil {
			t.Fatal(err)
		}
		disk.Images[name] = fileImage(t, b)
	}
	return disk
}

// grow writes files below a directory, and returns it.
func grow(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := write(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestADataPartitionThatSlotACannotMountIsRefused(t *testing.T) {
	requireTools(t, "mkfs.vfat", "mcopy", "grub-mkimage", "mke2fs", "mkfs.xfs", "mkfs.btrfs")
	const modules = "usr/lib/modules/6.1/"
	tree := grow(t, map[string]string{
		images.FirstStage: "first stage", "usr/share/filler": strings.Repeat("x", 20<<10), "boot/vmlinuz-6.1": strings.Repeat("kernel", 1<<10),
		modules + "modules.dep":         "kernel/dm-verity.ko:\nkernel/xfs.ko:\nkernel/btrfs.ko:\n",
		modules + "modules.builtin":     "kernel/erofs.ko\nkernel/overlay.ko\nkernel/fs/ext4/ext4.ko\n",
		modules + "kernel/dm-verity.ko": "dm-verity", modules + "kernel/xfs.ko": "xfs", modules + "kernel/btrfs.ko": "btrfs",
	})
	loaders := []string{GRUB}
	if _, err := os.Stat(sdBoot); err == nil {
		loaders = append(loaders, SDBoot)
	}
	for _, loader := range loaders {
		plain := built(t, tree, images.Options{Loader: loader})
		with := built(t, tree, images.Options{Loader: loader, Modules: []string{"xfs", "btrfs"}})
		for fs, why := range map[string]string{"ext4": "", "xfs": "image build --module xfs", "btrfs": "image build --module btrfs"} {
			if loader == SDBoot && fs == "btrfs" {
				continue
			}
			plain.Data.FileSystem, with.Data.FileSystem = fs, fs
			path := filepath.Join(t.TempDir(), "disk")
			r, err := Create(t.Context(), path, plain)
			if (why == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), why) {
				t.Errorf("%s, %s, not among the modules: got %v, want %q", loader, fs, err, why)
			}
			if err == nil && len(r.Notes) > 0 {
				t.Errorf("%s, %s: got %q", loader, fs, r.Notes)
			}
			if r, err := Create(t.Context(), path+"-with", with); err != nil || len(r.Notes) > 0 {
				t.Errorf("%s, %s: got %v, %v", loader, fs, r, err)
			}
		}
	}
	unknown, err := Create(t.Context(), filepath.Join(t.TempDir(), "disk"), options("xfs"))
	if err != nil || len(unknown.Notes) != 1 || !strings.Contains(unknown.Notes[0], "whether slot a can mount xfs is not known") {
		t.Errorf("images of another maker: got %v, %v", unknown, err)
	}
}

// kernelModules are those of the cloud kernel that a machine on virtio needs, as depmod would
// list them.
const kernelModules = `kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci_legacy_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_legacy_dev.ko kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/md/dm-mod.ko:
kernel/lib/reed_solomon/reed_solomon.ko:
kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko kernel/lib/reed_solomon/reed_solomon.ko
kernel/lib/libcrc32c.ko:
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/fs/overlayfs/overlay.ko:
kernel/lib/zstd/zstd_compress.ko:
kernel/lib/raid6/raid6_pq.ko:
kernel/crypto/xor.ko:
kernel/fs/btrfs/btrfs.ko: kernel/lib/zstd/zstd_compress.ko kernel/lib/raid6/raid6_pq.ko kernel/crypto/xor.ko kernel/lib/libcrc32c.ko
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
`

// TestDataPartitionsAreMountedAndWritten starts disks that image build and disk create made,
// with twinkeel-init, and has the root's first program say where its data is. Without
// TWINKEEL_LONG it starts the one on xfs only. The one on ext4 is that of the next test.
func TestDataPartitionsAreMountedAndWritten(t *testing.T) {
	kinds := []string{"xfs"}
	if os.Getenv("TWINKEEL_LONG") != "" {
		kinds = append(kinds, "btrfs")
	}
	o := machine(t, kinds...)
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			requireTools(t, fileSystems[kind].need.what)
			disk := filepath.Join(t.TempDir(), "disk")
			o.Data.FileSystem = kind
			if _, err := Create(t.Context(), disk, o); err != nil {
				t.Fatal(err)
			}
			tells(t, disk, "DATA "+kind+" written x")
		})
	}
}

// TestACommitBlockOfExt4ThatIsTornTakesNothingAway cuts the power behind what was made durable
// on ext4, and leaves of the journal's last commit block the first sector, which holds all that
// is said there, and behind it what a disk may have had there before. Linux writes zeros behind
// it, so that zeros would be no tear. The machine goes on, with all that was durable.
func TestACommitBlockOfExt4ThatIsTornTakesNothingAway(t *testing.T) {
	o := machine(t)
	requireTools(t, fileSystems["ext4"].need.what)
	disk := filepath.Join(t.TempDir(), "disk")
	if _, err := Create(t.Context(), disk, o); err != nil {
		t.Fatal(err)
	}
	tells(t, disk, "DATA ext4 written x")
	tear(t, disk)
	tells(t, disk, "DATA ext4 written xx")
}

// tear tears the last commit block in the journal of a disk's data partition. What its
// transaction changed must be nowhere but in the journal.
// Source: linux/Documentation/filesystems/ext4/journal.rst.
func tear(t *testing.T, disk string) {
	t.Helper()
	const magic, commitBlock, superBlock = 0xc03b3998, 2, 4
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := partitions.ReadGPT(f, st.Size(), sector)
	if err != nil {
		t.Fatal(err)
	}
	data := parts[slices.IndexFunc(parts, func(p partitions.Partition) bool { return p.Name == "data" })]
	var first, start, last uint32 // the oldest transaction, where it is, the newest
	var at int64
	b := make([]byte, 4096)
	for off := data.Start; off < data.Start+data.Size; off += int64(len(b)) {
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		be := binary.BigEndian
		if be.Uint32(b) != magic {
			continue
		}
		switch sequence := be.Uint32(b[8:]); be.Uint32(b[4:]) {
		case superBlock:
			first, start = be.Uint32(b[24:]), be.Uint32(b[28:])
		case commitBlock:
			if sequence > last {
				last, at = sequence, off
			}
		}
	}
	if start == 0 || last < first {
		t.Fatalf("the journal begins with transaction %d in block %d, the last one is %d: nothing is to be recovered", first, start, last)
	}
	rest := b[sector:]
	rand.NewChaCha8([32]byte{1}).Read(rest)
	if _, err := f.WriteAt(rest, at+sector); err != nil {
		t.Fatal(err)
	}
}

// machine returns options for a disk of a machine whose kernel has the given modules.
func machine(t *testing.T, modules ...string) Options {
	t.Helper()
	tools := emulator(t)
	o := built(t, machineTree(t, tools), images.Options{Loader: GRUB, Modules: modules})
	o.Cmdline = "ro console=ttyS0 quiet no_timer_check twinkeel.record=PARTLABEL=bootenv twinkeel.watchdog=none"
	return o
}

// tells starts a disk, waits for what its first program says, and cuts the power.
func tells(t *testing.T, disk, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	m, err := vm.Start(ctx, vm.Config{Disk: disk, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { t.Logf("%.1f s of processor", m.Stop().Seconds()) }()
	if got, err := m.Await(ctx, "DATA ", "data partition:", "cannot be started"); err != nil || got != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

// machineTree makes a root file system of a kernel, its modules, twinkeel-init, and a first
// program that tells of its data.
func machineTree(t *testing.T, tools vm.Tools) string {
	t.Helper()
	version := strings.TrimPrefix(filepath.Base(tools.Kernel), "vmlinuz-")
	modules := filepath.Join("usr/lib/modules", version)
	tree := grow(t, map[string]string{"etc/machine-id": "", "var/empty": "", filepath.Join(modules, "modules.dep"): kernelModules})
	for _, dir := range []string{"dev", "proc", "run", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lib := filepath.Dir(tools.Modules)
	from := map[string]string{filepath.Join("boot", filepath.Base(tools.Kernel)): tools.Kernel, filepath.Join(modules, "modules.builtin"): filepath.Join(lib, "modules.builtin")}
	for line := range strings.Lines(kernelModules) {
		name, _, _ := strings.Cut(line, ":")
		from[filepath.Join(modules, name)] = filepath.Join(lib, name)
	}
	for to, at := range from {
		b, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(filepath.Join(tree, to), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for program, source := range map[string]string{images.FirstStage: "../cmd/twinkeel-init", "sbin/init": "./testdata/tells"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(tree, program), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", source, err, out)
		}
	}
	return tree
}
