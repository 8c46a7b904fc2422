package backends

import (
	"os"
	"path/filepath"

	"github.com/twinkeel/twinkeel/partitions/bootloader/efivars"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
)

// grubPlaces is where GRUB's environment blocks lie, in the order in which they are looked
// for.
func grubPlaces(path, root string) []string {
	return below(path, root, "boot/twinkeel", "boot/efi/twinkeel", "efi/twinkeel")
}

// sdbootPlaces is where the file system that systemd-boot reads is mounted.
func sdbootPlaces(path, root string) []string {
	return below(path, root, "boot", "boot/efi", "efi")
}

// first returns the first of the places for which is holds, or "".
func first(places []string, is func(string) bool) string {
	for _, p := range places {
		if is(p) {
			return p
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// holdsGRUB reports whether one of GRUB's blocks is in dir: also a damaged record is one.
func holdsGRUB(dir string) bool {
	return first([]string{"grubenv", "grubenv2", "slota", "slotb"}, func(name string) bool { return exists(filepath.Join(dir, name)) }) != ""
}

// holdsSDBoot reports whether the record of systemd-boot's backend is below dir.
func holdsSDBoot(dir string) bool { return exists(filepath.Join(dir, sdboot.RecordPath)) }

// startedBy returns how the loader that started this kernel calls itself, such as
// "systemd-boot 252", or "". GRUB before 2.12 does not say.
func startedBy(root string) string {
	v, err := efivars.Store(filepath.Join(root, efivars.Dir)).Read("LoaderInfo", efivars.Loader)
	if err != nil {
		return ""
	}
	name, err := efivars.ParseText(v.Value)
	if err != nil {
		return ""
	}
	return name
}

// others says, for whom nothing was found, what else there is that boots.
func others(root string) string {
	text := ""
	for _, o := range []struct{ path, what string }{
		{"etc/fw_env.config", "U-Boot's environment"},
		{"boot/firmware/autoboot.txt", "a Raspberry Pi's tryboot"},
	} {
		if exists(filepath.Join(root, o.path)) {
			text += "; " + o.what + " is configured (/" + o.path + "): this version can read and write that, untested on hardware, and does not boot by it"
		}
	}
	if ran := startedBy(root); ran != "" {
		text += "; " + ran + " started this kernel"
	}
	return text
}
