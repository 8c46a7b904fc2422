package quota_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads/quota"
	"github.com/twinkeel/twinkeel/workloads/vm"
)

func TestWhatADirectoryTakesIsAddedUpAndNoLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(t.TempDir(), "big")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "a"), 0o755), os.WriteFile(filepath.Join(dir, "a", "x"), make([]byte, 100<<10), 0o644),
		os.WriteFile(big, make([]byte, 4<<20), 0o644), os.Symlink(big, filepath.Join(dir, "link")), os.Symlink("/", filepath.Join(dir, "root"))); err != nil {
		t.Fatal(err)
	}
	n, err := quota.Measure(t.Context(), dir)
	if err != nil || n < 100<<10 || n > 1<<20 {
		t.Errorf("got %d, %v, want about 100 KiB", n, err)
	}
	if err := quota.Limit("/proc", 1<<20); !errors.Is(err, quota.ErrNone) {
		t.Errorf("a file system without quotas: got %v, want ErrNone", err)
	}
}

// The kernel that tests run on may know no quotas, or not those of xfs; Debian's for virtual
// machines does.
func TestAFileSystemWithProjectQuotasStopsWhoWritesMoreAndNobodyElse(t *testing.T) {
	const cache = "../../.cache/vm"
	kernels, _ := filepath.Glob(cache + "/boot/vmlinuz-*")
	trees, _ := filepath.Glob(cache + "/lib/modules/*/kernel")
	needs.Tools(t, "qemu-system-x86_64")
	needs.That(t, len(kernels) == 1 && len(trees) == 1, "the kernel of .ci/install e2e")
	dir := t.TempDir()
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", init, "github.com/twinkeel/twinkeel/internal/probes/quotas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var modules []vm.Module
	for _, name := range []string{
		"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci_legacy_dev",
		"drivers/virtio/virtio_pci", "drivers/block/virtio_blk", "fs/quota/quota_tree", "fs/quota/quota_v2", "lib/libcrc32c", "fs/xfs/xfs",
	} {
		b, err := os.ReadFile(filepath.Join(trees[0], name+".ko"))
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, vm.Module{Name: filepath.Base(name) + ".ko", Content: b})
	}
	program, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	b, err := vm.Initramfs(program, modules, vm.Order{})
	if err != nil {
		t.Fatal(err)
	}
	initrd, ext4, xfs := filepath.Join(dir, "initrd"), filepath.Join(dir, "ext4"), filepath.Join(dir, "xfs")
	if err := errors.Join(os.WriteFile(initrd, b, 0o644), os.WriteFile(ext4, nil, 0o644), os.Truncate(ext4, 32<<20),
		os.WriteFile(xfs, nil, 0o644), os.Truncate(xfs, 320<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"/sbin/mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota", ext4}, {"/sbin/mkfs.xfs", "-q", xfs}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "128M", "-nodefaults",
		"-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", kernels[0], "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init", "-drive", "if=none,id=d,format=raw,file="+ext4,
		"-device", "virtio-blk-pci,drive=d", "-drive", "if=none,id=x,format=raw,file="+xfs, "-device", "virtio-blk-pci,drive=x").CombinedOutput()
	said := string(out)
	if err != nil || strings.Contains(said, "FAILED") {
		t.Fatalf("machine: %v\n%s", err, said)
	}
	for _, kind := range []string{"ext4", "xfs"} {
		for word, want := range map[string][2]int{"LIMITED": {256 << 10, 512 << 10}, "CLONED": {256 << 10, 512 << 10}, "OTHER": {4 << 20, 4 << 20}, "MEASURED": {900 << 10, 1 << 20}} {
			m := regexp.MustCompile(kind + " " + word + ` (\d+) (.*)`).FindStringSubmatch(said)
			if m == nil {
				t.Fatalf("%s: got no word on %s:\n%s", kind, word, said)
			}
			n, err := strconv.Atoi(m[1])
			full := strings.Contains(m[2], "quota") || strings.Contains(m[2], "no space")
			if err != nil || n < want[0] || n > want[1] || full != (word == "LIMITED" || word == "CLONED") {
				t.Errorf("got %s, want %s bytes", m[0], fmt.Sprint(want))
			}
		}
	}
}
