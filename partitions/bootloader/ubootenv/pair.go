package ubootenv

import (
	"fmt"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// Pair is a redundant environment in two places of one size.
type Pair struct {
	Copies [2]bootloader.Block
	Size   int // bytes of each
}

// Read returns the variables that U-Boot would go by.
func (p Pair) Read() (Variables, error) {
	v, _, _, err := p.read()
	return v, err
}

// read returns the copy that counts, which one it is, and its flags.
func (p Pair) read() (v Variables, which int, flags byte, err error) {
	var vars [2]Variables
	var marks [2]byte
	var errs [2]error
	for i, block := range p.Copies {
		b := make([]byte, p.Size)
		if _, errs[i] = bootloader.ReadBlock(block, b, 0); errs[i] == nil {
			vars[i], marks[i], errs[i] = Parse(b, true)
		}
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		return nil, 0, 0, fmt.Errorf("%w; second copy: %w", errs[0], errs[1])
	case errs[0] != nil || errs[1] == nil && newer(marks[1], marks[0]):
		which = 1
	}
	return vars[which], which, marks[which], nil
}

// newer reports whether flags a are newer than b: higher, but for the one step from 255 to
// 0. Of equal ones the first copy counts.
func newer(a, b byte) bool {
	switch {
	case a == 0 && b == 255:
		return true
	case a == 255 && b == 0:
		return false
	}
	return a > b
}

// Write durably makes v the environment. It replaces the copy that does not count now; if
// none does, the second one. The one that counts is flushed before: whoever wrote it may
// have been killed before it was durable.
func (p Pair) Write(v Variables) error {
	_, which, flags, err := p.read()
	if err != nil {
		which, flags = 0, 0
	} else if err := p.Copies[which].Flush(); err != nil {
		return fmt.Errorf("U-Boot environment: %w", err)
	}
	b, err := v.Encode(p.Size, true, flags+1)
	if err != nil {
		return err
	}
	block := p.Copies[1-which]
	if _, err := block.WriteAt(b, 0); err != nil {
		return fmt.Errorf("U-Boot environment: %w", err)
	}
	return block.Flush()
}
