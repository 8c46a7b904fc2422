package disks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/images"
	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/vm"
	"github.com/twinkeel/twinkeel/release"
)

// bootLimit fails machines that hang, not those that are slow.
const bootLimit = 4 * time.Minute

// fileImage is an image that lies in a file.
func fileImage(t *testing.T, b []byte) Image {
	t.Helper()
	size := (len(b) + release.BlockSize - 1) / release.BlockSize * release.BlockSize
	return Image{Size: int64(size), Write: func(_ context.Context, dst WriterAt) error {
		_, err := dst.WriteAt(b, 0)
		return err
	}}
}

// emulator is what machines are started with. Without it nothing of that is tested.
func emulator(t *testing.T) vm.Tools {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines: not in short mode")
	}
	tools, err := vm.FindTools("../.cache/vm")
	needs.That(t, err == nil, fmt.Sprint("machines: ", err))
	return tools
}

// TestDisksBootByStockLoaders starts a disk by each of the ways that it is made for; the
// guest is that of package vm, which reads the boot record as an agent does. Disks with large
// sectors are started where TWINKEEL_LONG is set.
func TestDisksBootByStockLoaders(t *testing.T) {
	tools := emulator(t)
	dir := t.TempDir()
	guest := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "../internal/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("guest: %v: %s", err, out)
	}
	initramfs, err := tools.Initramfs(guest, "one")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(tools.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	uki, err := vm.UKI(dir, tools.Kernel, initramfs, "console=ttyS0 quiet no_timer_check")
	if err != nil {
		t.Fatal(err)
	}
	version, err := release.ParseVersion("1.0")
	if err != nil {
		t.Fatal(err)
	}
	root, _ := image(20, release.Salt{1})
	make := func(name, loader string, sector int64, boot []byte) string {
		path := filepath.Join(dir, name+".img")
		_, err := Create(t.Context(), path, Options{Version: version, Loader: loader, Cmdline: "console=ttyS0 quiet no_timer_check", Sector: sector,
			Images: map[string]Image{imageRoot: root, imageBoot: fileImage(t, boot)}, Data: Data{FileSystem: "ext4"}})
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := bootFiles(t, dir, kernel, initramfs)
	type way struct {
		name, disk, vars string
		sector           int
	}
	grubDisk, sdbootDisk := make("grub", GRUB, 0, files), make("sdboot", SDBoot, 0, uki)
	ways := []way{
		{"GRUB for BIOS", grubDisk, "", 0},
		{"GRUB for UEFI", grubDisk, filepath.Join(dir, "grub.fd"), 0},
		{"systemd-boot", sdbootDisk, filepath.Join(dir, "sdboot.fd"), 0},
	}
	if os.Getenv("TWINKEEL_LONG") != "" {
		ways = append(ways,
			way{"GRUB for UEFI, sectors of 4 KiB", make("grub-large", GRUB, large, files), filepath.Join(dir, "grub-large.fd"), large},
			way{"systemd-boot, sectors of 4 KiB", make("sdboot-large", SDBoot, large, uki), filepath.Join(dir, "sdboot-large.fd"), large})
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
			defer cancel()
			m, err := vm.Start(ctx, vm.Config{Disk: way.disk, Sector: way.sector, Vars: way.vars, Log: filepath.Join(dir, "log")})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { t.Logf("%.1f s of processor", m.Stop().Seconds()) }()
			for _, want := range []string{"VM up slot=a release=one trial=false fallback=false", "VM record a=2/0/true b=0/0/false"} {
				if got, err := m.Await(ctx, "VM up", "VM record", "VM fatal", "VM error"); err != nil || got != want {
					t.Fatalf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
}

// bootFiles makes a boot image for GRUB, as package images does.
func bootFiles(t *testing.T, dir string, kernel, initrd []byte) []byte {
	t.Helper()
	tree, initrdFile := filepath.Join(dir, "tree"), filepath.Join(dir, "initrd")
	if err := write(filepath.Join(tree, "boot/vmlinuz-1"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := write(initrdFile, initrd, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := images.Build(t.Context(), images.Options{Source: tree, Output: filepath.Join(dir, "images"), Time: time.Unix(1, 0),
		Loader: images.GRUB, Initrd: initrdFile})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.Images["boot"].Path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
