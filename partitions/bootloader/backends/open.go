package backends

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/grub"
	"github.com/twinkeel/twinkeel/partitions/bootloader/running"
	"github.com/twinkeel/twinkeel/partitions/bootloader/sdboot"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// The names of the backends, as in the configuration.
const (
	Auto      = "auto"
	GRUB      = "grub"
	SDBoot    = "systemd-boot"
	Simulated = "simulated"
)

// Config says which boot loader to open.
type Config struct {
	Name string // of a backend, or "auto"
	Path string // where its record lies; "": its usual place
	// Kernels opens the image "boot" of a slot, out of which systemd-boot's kernels are
	// copied.
	Kernels sdboot.Source
}

// Found is the boot loader of a host.
type Found struct {
	Loader bootloader.BootLoader
	Name   string // of the backend
	Reason string // why this one, for `twinkeel doctor`
}

// Open opens a boot loader. The record of "grub" lies in a directory of four files
// (/boot/twinkeel, /boot/efi/twinkeel or /efi/twinkeel, the first that is there), that of
// "systemd-boot" in a mounted ESP or XBOOTLDR (/boot, /boot/efi or /efi), that of
// "simulated" in a partition or file, which has no usual place.
//
// "auto" goes by what is there. At a configured path: a directory that holds the record of
// systemd-boot is that, any other directory GRUB's, anything else simulated. Without a
// path it is GRUB or systemd-boot, whichever has a record in a usual place; if both have
// one, the one that started the running kernel, as far as that says so.
func Open(c Config) (Found, error) { return open(c, "/") }

// open is Open with the usual places below root.
func open(c Config, root string) (Found, error) {
	switch c.Name {
	case GRUB:
		return openGRUB(grubPlaces(c.Path, root), "configured")
	case SDBoot:
		return openSDBoot(c, sdbootPlaces(c.Path, root), "configured")
	case Simulated:
		return openSimulated(c.Path, "configured")
	case Auto:
	default:
		return Found{}, fmt.Errorf("boot loader: got %.40q, want %s, %s, %s or %s", c.Name, Auto, GRUB, SDBoot, Simulated)
	}
	if c.Path == "" {
		return find(c, root)
	}
	at, err := partitions.Resolve(c.Path)
	if err != nil {
		return Found{}, fmt.Errorf("boot loader: %w", err)
	}
	st, err := os.Stat(at)
	switch {
	case err != nil:
		return Found{}, fmt.Errorf("boot loader: %w", err)
	case st.IsDir() && holdsSDBoot(c.Path):
		return openSDBoot(c, []string{c.Path}, "the configured path holds its record")
	case st.IsDir():
		return openGRUB([]string{c.Path}, "the configured path is a directory")
	}
	return openSimulated(c.Path, "the configured path is no directory")
}

// find opens the loader that has a record in one of the usual places.
func find(c Config, root string) (Found, error) {
	g, s := first(grubPlaces("", root), holdsGRUB), first(sdbootPlaces("", root), holdsSDBoot)
	ran := startedBy(root)
	switch {
	case g != "" && s != "" && strings.HasPrefix(ran, "systemd-boot"):
		return openSDBoot(c, []string{s}, fmt.Sprintf("there is a record of GRUB too (%s), and %s ran", g, ran))
	case g != "" && s != "" && ran != "":
		return openGRUB([]string{g}, fmt.Sprintf("there is a record of systemd-boot too (%s), and %s ran", s, ran))
	case g != "" && s != "":
		return Found{}, fmt.Errorf("boot loader: there are records of grub (%s) and of systemd-boot (%s), and which of the two ran is not known: configure one", g, s)
	case g != "":
		return openGRUB([]string{g}, "found")
	case s != "":
		return openSDBoot(c, []string{s}, "found")
	}
	return Found{}, fmt.Errorf("boot loader: %w: no record in %s%s", os.ErrNotExist,
		strings.Join(append(grubPlaces("", root), sdbootPlaces("", root)...), ", "), others(root))
}

func openGRUB(dirs []string, why string) (Found, error) {
	// The first directory that is there counts, also if it is damaged: going on to another
	// record than the loader's would be a guess.
	dir := first(dirs, exists)
	if dir == "" {
		return Found{}, fmt.Errorf("boot loader grub: %w: none of %s", os.ErrNotExist, strings.Join(dirs, ", "))
	}
	l, err := grub.Open(dir, running.Here())
	if err != nil {
		return Found{}, fmt.Errorf("boot loader grub: %w", err)
	}
	return Found{l, GRUB, "grub: " + why + ": " + dir}, nil
}

func openSDBoot(c Config, dirs []string, why string) (Found, error) {
	dir := first(dirs, holdsSDBoot)
	if dir == "" {
		return Found{}, fmt.Errorf("boot loader systemd-boot: %w: %s in none of %s", os.ErrNotExist, sdboot.RecordPath, strings.Join(dirs, ", "))
	}
	if c.Kernels == nil {
		return Found{}, errors.New("boot loader systemd-boot: the slots have no image boot: its kernels are copied from there")
	}
	l, err := sdboot.Open(dir, c.Kernels, running.Here())
	if err != nil {
		return Found{}, fmt.Errorf("boot loader systemd-boot: %w", err)
	}
	return Found{l, SDBoot, "systemd-boot: " + why + ": " + dir}, nil
}

func openSimulated(path, why string) (Found, error) {
	if path == "" {
		return Found{}, errors.New("boot loader simulated: where its record lies is not configured")
	}
	l, err := simulated.Open(path)
	if err != nil {
		return Found{}, fmt.Errorf("boot loader simulated: %w", err)
	}
	return Found{l, Simulated, "simulated: " + why + ": " + path}, nil
}

// below returns places below root, or path alone if it is not empty.
func below(path, root string, places ...string) []string {
	if path != "" {
		return []string{path}
	}
	for i, p := range places {
		places[i] = filepath.Join(root, p)
	}
	return places
}
