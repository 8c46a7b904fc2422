package gptbits

import (
	"fmt"

	"github.com/twinkeel/twinkeel/partitions/bootloader"
)

// The places of the three values in the 64 bits of an entry's attributes.
const (
	priorityShift   = 48
	triesShift      = 52
	successfulShift = 56
	limit           = 15 // of priority and tries
)

// mask are the bits that belong to the boot record.
const mask = limit<<priorityShift | limit<<triesShift | 1<<successfulShift

// Bits is what the attributes of one entry say.
type Bits struct {
	Priority   uint8 // 0 to 15; 0: never boot
	Tries      uint8 // 0 to 15
	Successful bool
}

// Decode reads the attributes of an entry.
func Decode(attributes uint64) Bits {
	return Bits{
		Priority:   uint8(attributes >> priorityShift & limit),
		Tries:      uint8(attributes >> triesShift & limit),
		Successful: attributes>>successfulShift&1 == 1,
	}
}

// Encode returns attributes with the bits of b in them; all others stay.
func (b Bits) Encode(attributes uint64) (uint64, error) {
	if b.Priority > limit || b.Tries > limit {
		return 0, fmt.Errorf("GPT attributes: got priority %d and %d tries, want at most %d", b.Priority, b.Tries, limit)
	}
	attributes = attributes&^mask | uint64(b.Priority)<<priorityShift | uint64(b.Tries)<<triesShift
	if b.Successful {
		attributes |= 1 << successfulShift
	}
	return attributes, nil
}

// Of returns the bits of a slot's record, which always fit.
func Of(r bootloader.Record) Bits { return Bits(r) }

// Record returns the slot's record that the bits stand for: the numbers that are larger
// than any of ours count as our largest.
func (b Bits) Record() bootloader.Record {
	return bootloader.Record{Priority: min(b.Priority, bootloader.MaxPriority), Tries: min(b.Tries, bootloader.MaxTries), Successful: b.Successful}
}
