package vm

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
	"github.com/twinkeel/twinkeel/release"
)

// sdbootDisk makes a disk as `sdboot` has it: the slots' unified kernel images in
// partitions of their own, and that of slot a on the ESP, with an entry.
func (r rig) sdbootDisk(t *testing.T, dir string) string {
	t.Helper()
	uki := func(release string) []byte {
		b, err := UKI(dir, r.Kernel, r.initramfs(t, release), "console=ttyS0 quiet no_timer_check")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, two := uki("one"), uki("two")
	loader, err := os.ReadFile(SDBoot)
	if err != nil {
		t.Fatal(err)
	}
	files := sdbootRecord(t, one)
	files["EFI/BOOT/BOOTX64.EFI"] = loader
	disk := filepath.Join(dir, "disk.img")
	err = Make(disk, dir, []Partition{
		{Label: "esp", Type: "ef00", MiB: 80, Files: files},
		{Label: "boot-a", Type: "8300", MiB: 32, Raw: one},
		{Label: "boot-b", Type: "8300", MiB: 32, Raw: two},
	})
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// sdbootRecord returns the files of a record in which slot a, which holds kernel, stands.
func sdbootRecord(t *testing.T, kernel []byte) map[string][]byte {
	t.Helper()
	esp, slot := t.TempDir(), filepath.Join(t.TempDir(), "boot-a")
	kernel = append(kernel, make([]byte, -len(kernel)&4095)...)
	if err := os.WriteFile(slot, kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := sdboot.MakeFiles(esp)
	if err != nil {
		t.Fatal(err)
	}
	version, err := release.ParseVersion("1.0")
	if err != nil {
		t.Fatal(err)
	}
	var s bootloader.State
	kernels := f.Kernels(func(partitions.Slot) (partitions.OpenDevice, error) { return partitions.OpenRead(slot) })
	err = sdboot.Create(f.Entries, f.Record, kernels, s.Commit(partitions.A), map[partitions.Slot]bootloader.Description{partitions.A: {Version: version, Salt: release.Salt{1}}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	err = filepath.WalkDir(esp, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, esp+"/")] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSystemdBootTriesFallsBackAndCommits(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.sdbootDisk(t, dir)
	d := power(t, Config{Disk: disk, Vars: filepath.Join(dir, "vars.fd")})
	d.booted("slot=a release=one trial=false fallback=false", standingA)

	d.order("arm b 2", "list loader/entries", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/1/false")
	d.order("list loader/entries", "reboot") // not committed
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/0/false")
	d.order("list loader/entries", "reboot") // tries used up
	d.booted("slot=a release=one trial=false fallback=false", "a=1/0/true b=2/0/false")

	d.order("clear b", "list loader/entries", "arm b 1", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/0/false")
	d.order("commit", "list loader/entries", "reboot")
	d.booted("slot=b release=two trial=false fallback=false", "a=1/0/true b=2/0/true")

	d.order("arm a 1", "reboot") // back by hand: the older one is tried
	d.booted("slot=a release=one trial=true fallback=false", "a=2/0/false b=1/0/true")
	d.order("revert", "list loader/entries", "reboot")
	d.booted("slot=b release=two trial=false fallback=false", "a=0/0/false b=2/0/true")
}

func TestSystemdBootWithoutTheKernelOfATrialFallsBack(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.sdbootDisk(t, dir)
	d := power(t, Config{Disk: disk, Vars: filepath.Join(dir, "vars.fd")})
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	d.order("arm b 2", "remove twinkeel/b.efi", "reboot")
	d.want("up", "up slot=a release=one trial=false fallback=false")
}
