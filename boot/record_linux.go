package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/backends"
)

// errNoWay is the error of a slot that cannot be left: there is nothing to go to.
var errNoWay = errors.New("the other slot cannot be started")

// openRecord opens the boot record in the file system mounted at dir.
func openRecord(dir string) (bootloader.BootLoader, error) {
	path := dir
	if found, err := backends.Open(backends.Config{Name: backends.SDBoot, Path: dir, Kernels: noKernels}); err == nil {
		return found.Loader, nil
	}
	found, err := backends.Open(backends.Config{Name: backends.GRUB, Path: path + "/twinkeel"})
	if err != nil {
		return nil, fmt.Errorf("boot record: %w", err)
	}
	return found.Loader, nil
}

// noKernels is the source of systemd-boot's kernels here: leaving a slot needs none.
func noKernels(partitions.Slot) (partitions.OpenDevice, error) {
	return nil, errors.New("the first stage copies no kernels")
}

// leave makes the other slot the one that stands, in the boot record, if it can be started.
func leave(ctx context.Context, l bootloader.BootLoader, slot partitions.Slot) error {
	s, err := l.Load(ctx)
	if err != nil {
		return err
	}
	if !s.Slots[slot.Other()].Bootable() {
		return errNoWay
	}
	if s.Slots[slot].Priority == 0 {
		return nil // it was left before
	}
	s, err = s.Revert(slot)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoWay, err)
	}
	return l.Store(ctx, s)
}
