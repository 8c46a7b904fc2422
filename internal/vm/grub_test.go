package vm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/release"
)

// grubDisk makes a disk as `grub` has it: the record on a file system of its own, one
// boot file system for each slot, and GRUB for BIOS and UEFI.
func (r rig) grubDisk(t *testing.T, dir string) string {
	t.Helper()
	script, err := grub.Snippet(grub.Layout{
		Dir: "(hd0,gpt3)/twinkeel", Boot: [2]string{"(hd0,gpt4)", "(hd0,gpt5)"},
		Kernel: "/vmlinuz", Initrd: "/initrd.img", Cmdline: "console=ttyS0 quiet no_timer_check",
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := MakeGRUB(dir, script)
	if err != nil {
		t.Fatal(err)
	}
	slot := func(release string) map[string][]byte {
		return map[string][]byte{"vmlinuz": r.kernel, "initrd.img": r.initramfs(t, release)}
	}
	disk := filepath.Join(dir, "disk.img")
	err = Make(disk, dir, []Partition{
		{Label: "bios", Type: "ef02", MiB: 1},
		{Label: "esp", Type: "ef00", MiB: 8, Files: map[string][]byte{"EFI/BOOT/BOOTX64.EFI": g.EFI}},
		{Label: "bootenv", Type: "8300", MiB: 1, Files: grubRecord(t)},
		{Label: "boot-a", Type: "8300", MiB: 32, Files: slot("one")},
		{Label: "boot-b", Type: "8300", MiB: 32, Files: slot("two")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.InstallBIOS(disk, mib); err != nil {
		t.Fatal(err)
	}
	return disk
}

// grubRecord returns the files of a record in which slot a stands and b is cleared.
func grubRecord(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	blocks, err := grub.MakeFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	version, err := release.ParseVersion("1.0")
	if err != nil {
		t.Fatal(err)
	}
	var s bootloader.State
	err = grub.Create(blocks, s.Commit(partitions.A), map[partitions.Slot]bootloader.Description{partitions.A: {Version: version, Salt: release.Salt{1}}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range []string{"grubenv", "grubenv2", "slota", "slotb"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files["twinkeel/"+name] = b
	}
	return files
}

const (
	grubSays   = "twinkeel: slot "
	standingA  = "a=2/0/true b=0/0/false"
	noTrial    = "cannot be saved: no trial"
	recordLost = "the boot record is lost"
)

func TestGRUBOnBIOSTriesFallsBackAndRepairs(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.grubDisk(t, dir)
	d := power(t, Config{Disk: disk})
	d.booted("slot=a release=one trial=false fallback=false", standingA)

	d.order("arm b 2", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/1/false")
	d.order("reboot") // not committed
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/0/false")
	d.order("reboot") // tries used up
	d.booted("slot=a release=one trial=false fallback=false", "a=1/0/true b=2/0/false")

	d.order("arm b 3", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/2/false")
	d.order("commit", "arm a 3", "noise grubenv", "reboot")
	// The second copy has an armed slot too, and its counter is never written: no trial.
	d.booted("slot=b release=two trial=false fallback=false", "a=2/0/false b=1/0/true")

	d.order("arm a 1", "reboot") // the first copy is repaired
	d.booted("slot=a release=one trial=true fallback=false", "a=2/0/false b=1/0/true")
	d.order("commit", "noise grubenv", "noise grubenv2", "reboot")
	d.see(recordLost)
	d.want("up", "up slot=a release=one trial=false fallback=false")
	if got := d.see("VM error", "VM record"); got[:8] != "VM error" {
		t.Errorf("a record of noise was read: %s", got)
	}
}

func TestGRUBStartsNoTrialOnADiskThatCannotBeWritten(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.grubDisk(t, dir)
	d := power(t, Config{Disk: disk})
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	d.order("arm b 3", "off")

	d = power(t, Config{Disk: disk, ReadOnly: true})
	d.see(noTrial)
	d.booted("slot=a release=one trial=false fallback=false", "a=1/0/true b=2/3/false")
	d.stop()

	d = power(t, Config{Disk: disk}) // the same disk, writable
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/2/false")
	d.order("mount boot-b", "remove vmlinuz", "reboot")
	d.see("slot b cannot be loaded")
	d.booted("slot=a release=one trial=false fallback=true", "a=1/0/true b=2/1/false")
}

func TestGRUBOnUEFITriesFallsBackAndCommits(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	disk := r.grubDisk(t, dir)
	d := power(t, Config{Disk: disk, Vars: filepath.Join(dir, "vars.fd")})
	d.booted("slot=a release=one trial=false fallback=false", standingA)
	d.order("arm b 1", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/0/false")
	d.order("reboot")
	d.booted("slot=a release=one trial=false fallback=false", "a=1/0/true b=2/0/false")
	d.order("arm b 2", "reboot")
	d.booted("slot=b release=two trial=true fallback=false", "a=1/0/true b=2/1/false")
	d.order("commit", "reboot")
	d.booted("slot=b release=two trial=false fallback=false", "a=1/0/true b=2/0/true")
}
