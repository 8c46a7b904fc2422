package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/twinkeel/twinkeel/internal/vm"
)

// span is a part of a disk, in bytes.
type span struct{ at, size int64 }

// traceUnit divides all that a machine reads or writes.
const traceUnit = 512

// needs returns what a machine read of its disk before it wrote it, which is all that the disk told it,
// and what it wrote.
func needs(accesses []vm.Access) (read, written []span) {
	isRead, isWritten := map[int64]bool{}, map[int64]bool{}
	for _, a := range accesses {
		for at := a.At; at < a.At+a.Size; at += traceUnit {
			if a.Write {
				isWritten[at] = true
			} else if !isWritten[at] {
				isRead[at] = true
			}
		}
	}
	return spans(isRead), spans(isWritten)
}

// spans joins what lies side by side.
func spans(units map[int64]bool) (list []span) {
	for _, at := range slices.Sorted(maps.Keys(units)) {
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

// frozen is a machine as it was when its kernel first read the disk, with the loader behind it. On a
// disk that is the same in all that firmware, loader and kernel had read by then, every machine
// comes to just that.
type frozen struct {
	path  string
	needs []span
	sum   [32]byte    // of these
	wrote []vm.Effect // by the loader
}

// freeze powers a machine on, and keeps it as it is when its kernel first reads the disk. Then it goes on. still is
// the disk as it was before. It returns nil if the machine ends before that.
func (h *host) freeze(still string) (*frozen, error) {
	h.c.Freezes = true
	defer func() { h.c.Freezes = false }()
	if err := h.on(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, bootLimit)
	defer cancel()
	if err := h.m.KernelReads(ctx, h.c.Trace); errors.Is(err, vm.ErrEnded) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	f := &frozen{path: filepath.Join(h.dir, "frozen")}
	if err := h.m.Freeze(ctx, f.path); err != nil {
		return nil, err
	}
	if err := f.until(h.c.Trace, still, h.c.Disk); err != nil {
		return nil, err
	}
	return f, h.m.Thaw(ctx)
}

// until reads from a trace what a machine read and wrote until it was frozen. still is its disk as
// it was before, and disk as it is.
func (f *frozen) until(trace, still, disk string) error {
	accesses, err := vm.ReadTrace(trace)
	if err != nil {
		return err
	}
	var wrote []span
	f.needs, wrote = needs(accesses)
	// Without what the firmware reads first it is no trace of a boot.
	if !touch(f.needs, 0, traceUnit) {
		return errors.New("the trace of a boot has no read of the disk's first sector")
	}
	if f.sum, err = digest(still, f.needs); err != nil {
		return err
	}
	now, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer now.Close()
	for _, s := range wrote {
		b := make([]byte, s.size)
		if _, err := now.ReadAt(b, s.at); err != nil {
			return err
		}
		f.wrote = append(f.wrote, vm.Effect{At: s.at, Data: b})
	}
	return nil
}

// alike reports whether a machine with a disk comes to what f is.
func (f *frozen) alike(disk string) (bool, error) {
	if f == nil {
		return false, nil
	}
	sum, err := digest(disk, f.needs)
	return sum == f.sum, err
}

// thaw lets a machine that would come to what f is go on from there, once.
func (h *host) thaw(f *frozen) error {
	disk, err := os.OpenFile(h.c.Disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := vm.Cut(disk, f.wrote, nil); err != nil {
		return err
	}
	if err := disk.Close(); err != nil {
		return err
	}
	h.c.Frozen = f.path
	defer func() { h.c.Frozen = "" }()
	return h.on()
}
