package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// span is a part of a disk, in bytes.
type span struct{ at, size int64 }

// traceUnit divides all that a machine reads or writes.
const traceUnit = 512

// needs returns what machines, one after the other on one disk, read of it that none of them had written:
// all that a disk tells them. On a disk that is the same there, everything comes as it came.
func needs(accesses []vm.Access) (list []span) {
	read, written := map[int64]bool{}, map[int64]bool{}
	for _, a := range accesses {
		for at := a.At; at < a.At+a.Size; at += traceUnit {
			if a.Write {
				written[at] = true
			} else if !written[at] {
				read[at] = true
			}
		}
	}
	sectors := make([]int64, 0, len(read))
	for at := range read {
		sectors = append(sectors, at)
	}
	slices.Sort(sectors)
	for _, at := range sectors {
		if last := len(list) - 1; last >= 0 && list[last].at+list[last].size == at {
			list[last].size += traceUnit
		} else {
			list = append(list, span{at, traceUnit})
		}
	}
	return list
}

// touch reports whether one of the spans holds a byte from one place up to another.
func touch(spans []span, from, to int64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.at < to && s.at+s.size > from })
}

// digest is that of parts of a disk.
func digest(disk string, spans []span) (sum [32]byte, err error) {
	f, err := os.Open(disk)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	for _, s := range spans {
		if n, err := io.Copy(hash, io.NewSectionReader(f, s.at, s.size)); err != nil || n != s.size {
			return sum, fmt.Errorf("%s: read %d bytes of %d at %d, %w", disk, n, s.size, s.at, err)
		}
	}
	return [32]byte(hash.Sum(nil)), nil
}

// booting is a boot of a state, and what it depends on.
type booting struct {
	up    up
	needs []span
	sum   [32]byte // of these on the disk that was booted
}

// needed reads the traces of a state that was booted. still is the disk as it was before.
func (h *host) needed(still string, u up) (b booting, err error) {
	var accesses []vm.Access
	for _, path := range h.traces {
		list, readErr := vm.ReadTrace(path)
		accesses, err = append(accesses, list...), errors.Join(err, readErr)
	}
	if err != nil {
		return b, err
	}
	b = booting{up: u, needs: needs(accesses)}
	// Without what the firmware reads first it is no trace of a boot.
	if !touch(b.needs, 0, traceUnit) {
		return b, errors.New("the trace of a boot has no read of the disk's first sector")
	}
	b.sum, err = digest(still, b.needs)
	return b, err
}

// alike reports whether a disk boots as b did.
func (b booting) alike(disk string) (bool, error) {
	if b.needs == nil {
		return false, nil
	}
	sum, err := digest(disk, b.needs)
	return sum == b.sum, err
}
