package shim

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// frugal is the percentage by which the heap may grow before it is collected, once the start
// is over: an answer leaves a few KiB behind, and the shim has all the time in the world.
const frugal = 10

// settleDown gives back what the start took: pages at once, garbage, of which nothing was
// collected until then, with that of the first answers, or when the runtime next looks by
// itself, every two minutes.
func (s *supervisor) settleDown() {
	trim()
	debug.SetGCPercent(frugal)
}

// lull is how long the shim goes on answering before what that took is given back: not
// after each answer, which would cost more than the answer, and not never.
const lull = 5 * time.Second

// many is after how many answers in a row that is done at once, so that there is a limit to
// what they take. A check each second never comes to it.
const many = 16

// restSoon gives back what answers took, once for all of the next lull or of many answers.
func (s *supervisor) restSoon() {
	if s.unrested.Add(1) >= many {
		s.rest()
		return
	}
	if s.resting.CompareAndSwap(false, true) {
		time.AfterFunc(lull, func() {
			s.resting.Store(false)
			s.rest()
		})
	}
}

// rest gives back garbage, and pages.
func (s *supervisor) rest() {
	s.unrested.Store(0)
	debug.FreeOSMemory()
	trim()
}

// trim gives back the pages of the program's own file that its start touched once, which
// is nearly all of them: the kernel maps a file's pages by the dozen. They are as they are
// in the file; one that is needed again comes from there. A host has one shim for each
// application.
func trim() {
	for _, p := range constant() { // last of all, for everything else touches pages
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, p.first, p.size, unix.MADV_DONTNEED)
	}
}

// part is a part of this process's memory, in whole pages.
type part struct{ first, size uintptr }

// Program headers: where they are in a file's head, and fields of one (elf(5), Elf64_Ehdr
// and Elf64_Phdr).
const (
	headersAt, headerSizeAt, headerCountAt      = 32, 54, 56
	headerSize                                  = 56
	kindAt, flagsAt, addressAt, bytesInMemoryAt = 0, 4, 16, 40
	kindLoad, kindHeaders                       = 1, 6 // PT_LOAD, PT_PHDR
	flagWrite                                   = 2    // PF_W
	auxHeaders                                  = 3    // AT_PHDR, of the vector that the kernel gives a program
)

// constant are the parts that were loaded from the program's file never to be written:
// what a loader changes before it makes it read-only was loaded to be written. Of a file
// that is not understood there are none, and the process stays as large as it is.
func constant() (parts []part) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4<<10)
	n, err := f.ReadAt(head, 0)
	head = head[:n]
	if n < 64 || err != nil && !errors.Is(err, io.EOF) || head[4] != 2 { // 64 bits
		return nil
	}
	order := binary.NativeEndian
	first, count := order.Uint64(head[headersAt:]), uint64(order.Uint16(head[headerCountAt:]))
	if order.Uint16(head[headerSizeAt:]) != headerSize || first+count*headerSize > uint64(n) {
		return nil
	}
	var base uintptr
	aux, err := unix.Auxv()
	for _, a := range aux {
		if a[0] == auxHeaders {
			base = a[1]
		}
	}
	if err != nil || base == 0 {
		return nil
	}
	page, known := uintptr(os.Getpagesize()), false
	for i := range count {
		h := head[first+i*headerSize:]
		kind, at := order.Uint32(h[kindAt:]), uintptr(order.Uint64(h[addressAt:]))
		switch {
		case kind == kindHeaders: // which is before all that is loaded
			base, known = base-at, true
		case kind == kindLoad && known && order.Uint32(h[flagsAt:])&flagWrite == 0:
			from := (base + at) &^ (page - 1)
			to := (base + at + uintptr(order.Uint64(h[bytesInMemoryAt:])) + page - 1) &^ (page - 1)
			parts = append(parts, part{from, to - from})
		}
	}
	return parts
}
