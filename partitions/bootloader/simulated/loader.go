package simulated

import (
	"context"
	"fmt"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/record"
)

// areaBoot is the area that holds the boot that the machine is in.
const areaBoot = record.Areas

// Size is how many bytes a boot record takes.
const Size = (areaBoot + 1) * record.AreaSize

// Loader is a boot record and its loader. It implements bootloader.BootLoader.
type Loader struct {
	*record.Record
}

// New returns the loader whose record lies in block.
func New(block bootloader.Block) *Loader { return &Loader{record.On(block)} }

// Open returns the loader whose record lies in the regular file or partition that spec
// names (see partitions.Resolve), which has at least Size bytes.
func Open(spec string) (*Loader, error) {
	f, err := OpenFile(spec)
	if err != nil {
		return nil, err
	}
	return New(f), nil
}

// OpenFile returns the storage that spec names, for New and Create.
func OpenFile(spec string) (*record.File, error) { return record.OpenFile(spec, Size) }

// Create lays out a record that holds s and the given descriptions, as whoever makes
// the disk does. It is not safe against power cuts: nothing stands before it.
func Create(block bootloader.Block, s bootloader.State, descriptions map[partitions.Slot]bootloader.Description) error {
	return record.Create(block, s, descriptions)
}

// Booted returns the boot that PowerOn recorded last.
func (l *Loader) Booted(context.Context) (bootloader.Boot, error) {
	b, _, err := record.Value[bootloader.Boot](l.Record, areaBoot)
	if err != nil {
		return bootloader.Boot{}, fmt.Errorf("booted slot: %w", err)
	}
	return b, nil
}
