package bsdiff40

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// Magic is what a patch starts with.
	Magic = "BSDIFF40"

	headerSize = 32
	tripleSize = 24
	// A bsdiff writes a step only after a match of more than 8 bytes that it did not
	// already have, so a file of n bytes has at most n/9+2 steps, whatever the old file.
	bytesPerStep = 8
	spareSteps   = 16
)

// Header is what a patch says of itself.
type Header struct {
	Control int64 // bytes of the compressed control stream, behind the header
	Diff    int64 // bytes of the compressed diff stream, behind that
	Extra   int64 // bytes of the compressed extra stream, the rest
	NewSize int64 // bytes of the new file
}

// ParseHeader reads the header of a patch and compares it with the patch's length.
func ParseHeader(patch []byte) (Header, error) {
	if len(patch) < headerSize || string(patch[:len(Magic)]) != Magic {
		return Header{}, errors.New("not a BSDIFF40 patch")
	}
	var h Header
	rest := int64(len(patch) - headerSize)
	for i, f := range []struct {
		name  string
		value *int64
		limit int64
	}{
		{"control stream", &h.Control, rest},
		{"diff stream", &h.Diff, rest},
		{"new file", &h.NewSize, 1 << 62},
	} {
		v := number(patch[8+8*i:])
		if v < 0 || v > f.limit {
			return Header{}, fmt.Errorf("patch header: %s: got %d bytes, want 0 to %d", f.name, v, f.limit)
		}
		*f.value = v
	}
	if h.Extra = rest - h.Control - h.Diff; h.Extra < 0 {
		return Header{}, fmt.Errorf("patch header: streams of %d and %d bytes in a patch of %d", h.Control, h.Diff, len(patch))
	}
	return h, nil
}

// number reads the format's 8-byte number: little endian, sign and magnitude.
func number(b []byte) int64 {
	v := binary.LittleEndian.Uint64(b)
	n := int64(v &^ (1 << 63))
	if v>>63 != 0 {
		return -n
	}
	return n
}

// check reports the first reason not to apply patch to an old file of oldSize bytes.
func check(patch []byte, oldSize int64, limits Limits) error {
	h, err := ParseHeader(patch)
	if err != nil {
		return err
	}
	if h.NewSize > limits.New {
		return fmt.Errorf("new file: got %d bytes, want at most %d", h.NewSize, limits.New)
	}
	control := bzip2.NewReader(bytes.NewReader(patch[headerSize:][:h.Control]))
	var newAt, oldAt int64
	var triple [tripleSize]byte
	maxSteps := h.NewSize/bytesPerStep + spareSteps
	for step := int64(0); newAt < h.NewSize; step++ {
		if step == maxSteps {
			return fmt.Errorf("control stream: more than %d steps for %d bytes", maxSteps, h.NewSize)
		}
		if _, err := io.ReadFull(control, triple[:]); err != nil {
			return fmt.Errorf("control stream: step %d: %w", step, err)
		}
		add, insert, seek := number(triple[0:]), number(triple[8:]), number(triple[16:])
		switch left := h.NewSize - newAt; {
		case add < 0 || insert < 0 || add > left || insert > left-add:
			return fmt.Errorf("control stream: step %d: lengths %d and %d, want at most %d in all", step, add, insert, left)
		case add > 0 && (oldAt < 0 || add > oldSize-oldAt):
			return fmt.Errorf("control stream: step %d: reads %d bytes at %d of an old file of %d", step, add, oldAt, oldSize)
		}
		newAt += add + insert
		oldAt += add
		// Where a seek leads to matters only if something is read there, but it must
		// not overflow: both files are far smaller than this.
		if seek < -maxSeek || seek > maxSeek || oldAt+seek < -maxSeek || oldAt+seek > maxSeek {
			return fmt.Errorf("control stream: step %d: seeks by %d from %d", step, seek, oldAt)
		}
		oldAt += seek
	}
	if n, err := control.Read(triple[:1]); n != 0 || err != io.EOF {
		return errors.New("control stream: goes on behind the end of the new file")
	}
	return nil
}

const maxSeek = 1 << 40
