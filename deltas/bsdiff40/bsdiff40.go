package bsdiff40

import (
	"fmt"

	"github.com/gabstv/go-bsdiff/pkg/bsdiff"
	"github.com/gabstv/go-bsdiff/pkg/bspatch"
)

// Limits bound the files, in bytes. A zero field stands for DefaultLimit.
type Limits struct {
	Old, New, Patch int64
}

// DefaultLimit is 128 MiB. To make a patch takes some 22 bytes of memory for each byte
// of the old file, so this is already 3 GiB.
const DefaultLimit = 128 << 20

func (l Limits) withDefaults() Limits {
	for _, f := range []*int64{&l.Old, &l.New, &l.Patch} {
		if *f == 0 {
			*f = DefaultLimit
		}
	}
	return l
}

// Create returns a patch that leads from old to new.
func Create(old, new []byte, limits Limits) (patch []byte, err error) {
	limits = limits.withDefaults()
	if err := checkSize("old file", old, limits.Old); err != nil {
		return nil, fmt.Errorf("create patch: %w", err)
	}
	if err := checkSize("new file", new, limits.New); err != nil {
		return nil, fmt.Errorf("create patch: %w", err)
	}
	defer recovered("create patch", &err)
	patch, err = bsdiff.Bytes(old, new)
	if err == nil {
		err = check(patch, int64(len(old)), limits)
	}
	if err != nil {
		return nil, fmt.Errorf("create patch: %w", err)
	}
	return patch, nil
}

// Apply returns the new file that patch makes of old. The format has no digest: a patch
// that was made from another old file may be applied without an error.
func Apply(old, patch []byte, limits Limits) (new []byte, err error) {
	limits = limits.withDefaults()
	if err := checkSize("old file", old, limits.Old); err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	if err := checkSize("patch", patch, limits.Patch); err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	if err := check(patch, int64(len(old)), limits); err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	defer recovered("apply patch", &err)
	if new, err = bspatch.Bytes(old, patch); err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	return new, nil
}

func checkSize(what string, b []byte, limit int64) error {
	if int64(len(b)) > limit {
		return fmt.Errorf("%s: got %d bytes, want at most %d", what, len(b), limit)
	}
	return nil
}

// recovered makes an error of a panic of the library.
func recovered(operation string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: damaged: %v", operation, r)
	}
}
