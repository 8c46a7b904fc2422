package running

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Kernel is where the running kernel says how it was started.
//
// The loader puts twinkeel.slot=a or =b on the command line, and twinkeel.fallback=1 when
// the slot that was first could not be loaded. Whoever starts a kernel by kexec instead
// has to add twinkeel.kexec, whatever the rest of the line says; whoever does a soft
// reboot has to create the file SoftReboot before, which lies in a directory that
// survives it and does not survive a real one. Both mean that neither firmware nor loader
// has proven the slot that runs.
type Kernel struct {
	Cmdline    string // path of the command line
	BootID     string // path of the boot id
	SoftReboot string // path of the marker of a soft reboot
}

// Here is the kernel of this machine.
func Here() Kernel {
	return Kernel{
		Cmdline:    "/proc/cmdline",
		BootID:     "/proc/sys/kernel/random/boot_id",
		SoftReboot: "/run/twinkeel/soft-reboot",
	}
}

// Booted reads the boot from the running kernel.
func (k Kernel) Booted() (bootloader.Boot, error) {
	line, err := os.ReadFile(k.Cmdline)
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	b, err := ParseCmdline(string(line))
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %s: %w", k.Cmdline, err)
	}
	id, err := os.ReadFile(k.BootID)
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	if b.ID = strings.TrimSpace(string(id)); b.ID == "" {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %s is empty", k.BootID)
	}
	switch st, err := os.Stat(k.SoftReboot); {
	case err == nil:
		// The kernel goes on running, with its boot id; each soft reboot is a boot of
		// its own, told by the time of its marker.
		b.Firmware, b.ID = false, fmt.Sprintf("%s-%d", b.ID, st.ModTime().UnixNano())
	case !errors.Is(err, fs.ErrNotExist):
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	return b, nil
}

// ParseCmdline reads slot and markers from a kernel command line.
func ParseCmdline(line string) (bootloader.Boot, error) {
	b := bootloader.Boot{Firmware: true}
	found := ""
	for _, word := range strings.Fields(line) {
		switch name, value, _ := strings.Cut(word, "="); name {
		case "twinkeel.slot":
			slot, err := partitions.ParseSlot(value)
			if err != nil {
				return bootloader.Boot{}, err
			}
			if found != "" && found != value {
				return bootloader.Boot{}, errors.New("twinkeel.slot is there twice, with two values")
			}
			found, b.Slot = value, slot
		case "twinkeel.fallback":
			b.Fallback = value == "1"
		case "twinkeel.kexec":
			b.Firmware = false
		}
	}
	if found == "" {
		return bootloader.Boot{}, errors.New("twinkeel.slot is not there")
	}
	return b, nil
}
