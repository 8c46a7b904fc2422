package bootloader

import (
	"context"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// Boot is the boot that the machine is in.
type Boot struct {
	Slot partitions.Slot `json:"slot"`
	ID   string          `json:"id"` // differs from boot to boot
	// Firmware is false if the kernel was started by kexec or a soft reboot, so that
	// neither firmware nor loader has proven the slot.
	Firmware bool `json:"firmware"`
	// Fallback is true if the loader could not load the slot that was first, and
	// started this one in the same boot instead.
	Fallback bool `json:"fallback"`
}

// Description tells a loader what it needs to start a slot: the kernel's view of the
// root image. It is written while the slot is cleared.
type Description struct {
	Version    release.Version           `json:"version"`
	Root       release.Digest            `json:"root"` // verity root of the image "root"
	Salt       release.Salt              `json:"salt"`
	HashOffset int64                     `json:"hashOffset"` // bytes into the root partition
	Images     map[string]release.Digest `json:"images"`     // every image of the slot
}

// BootLoader is one way to choose a slot. All of it is safe to call again after a
// crash inside any call.
type BootLoader interface {
	// Booted says which slot runs now.
	Booted(context.Context) (Boot, error)
	// Load reads the boot record as the loader would act on it now: its Next is the
	// slot that the loader would start. It never writes.
	Load(context.Context) (State, error)
	// Store makes s the boot record, durably; a crash inside leaves the old record or
	// a legal middle state. It refuses an s that does not pass Check, and one that
	// makes a cleared slot bootable which was never described.
	Store(ctx context.Context, s State) error
	// Describe durably records what slot holds. It is refused unless the slot is
	// cleared in the stored record.
	Describe(context.Context, partitions.Slot, Description) error
}
