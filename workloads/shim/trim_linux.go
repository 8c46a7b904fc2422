package shim

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// frugal is the percentage by which the heap may grow before it is collected, once the start
// is over: an answer leaves a few KiB behind, and the shim has all the time in the world.
const frugal = 10

// settleDown gives back what the start took: pages at once, garbage with that of the first
// answers.
func (s *supervisor) settleDown() {
	debug.SetGCPercent(frugal)
	trim()
	s.restSoon()
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
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return // it stays as large as it is
	}
	type part struct{ first, size uintptr }
	var parts []part
	var last part
	for line := range strings.Lines(string(b)) {
		if line[0] >= 'A' && line[0] <= 'Z' {
			// A loader changes pages before it makes them read-only: those are nowhere else.
			if n, ok := strings.CutPrefix(line, "Anonymous:"); ok && last.size > 0 && strings.TrimSpace(n) == "0 kB" {
				parts = append(parts, last)
			}
			continue
		}
		last = part{}
		span, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(rest, "r-") || !strings.Contains(rest, " /") {
			continue
		}
		from, to, _ := strings.Cut(span, "-")
		first, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && end > first {
			last = part{uintptr(first), uintptr(end - first)}
		}
	}
	for _, p := range parts { // last of all, for everything else touches pages
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, p.first, p.size, unix.MADV_DONTNEED)
	}
}
