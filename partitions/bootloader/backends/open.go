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
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// The names of the backends, as in the configuration.
const (
	Auto      = "auto"
	GRUB      = "grub"
	Simulated = "simulated"
)

// Found is the boot loader of a host.
type Found struct {
	Loader bootloader.BootLoader
	Name   string // of the backend
	Reason string // why this one, for `twinkeel doctor`
}

// grubDirs is where GRUB's environment blocks lie if nobody says otherwise, in the order
// in which they are looked for.
var grubDirs = []string{"boot/twinkeel", "boot/efi/twinkeel", "efi/twinkeel"}

// Open opens the backend called name; path is where its record lies, or "" for its usual
// place. The record of "grub" lies in a directory of four files (/boot/twinkeel,
// /boot/efi/twinkeel or /efi/twinkeel, the first that is there), that of "simulated" in a
// partition or file, which has no usual place.
//
// "auto" goes by path: a directory is GRUB's, anything else that exists is simulated. Without a
// path it is GRUB if one of the usual directories is there.
func Open(name, path string) (Found, error) { return open(name, path, "/") }

// open is Open with the usual places below root.
func open(name, path, root string) (Found, error) {
	switch name {
	case GRUB:
		return openGRUB(path, root, "configured")
	case Simulated:
		return openSimulated(path, "configured")
	case Auto:
	default:
		return Found{}, fmt.Errorf("boot loader: got %.40q, want %s, %s or %s", name, Auto, GRUB, Simulated)
	}
	if path == "" {
		return openGRUB("", root, "found")
	}
	at, err := partitions.Resolve(path)
	if err != nil {
		return Found{}, fmt.Errorf("boot loader: %w", err)
	}
	st, err := os.Stat(at)
	if err != nil {
		return Found{}, fmt.Errorf("boot loader: %w", err)
	}
	if st.IsDir() {
		return openGRUB(path, root, "the configured path is a directory")
	}
	return openSimulated(path, "the configured path is no directory")
}

func openGRUB(path, root, why string) (Found, error) {
	dirs := []string{path}
	if path == "" {
		dirs = nil
		for _, d := range grubDirs {
			dirs = append(dirs, filepath.Join(root, d))
		}
	}
	for _, dir := range dirs {
		// The first directory that is there counts, also if it is damaged: going on to
		// another record than the loader's would be a guess.
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		l, err := grub.Open(dir, grub.Running())
		if err != nil {
			return Found{}, fmt.Errorf("boot loader grub: %w", err)
		}
		return Found{l, GRUB, "grub: " + why + ": " + dir}, nil
	}
	return Found{}, fmt.Errorf("boot loader grub: %w: none of %s", os.ErrNotExist, strings.Join(dirs, ", "))
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
