package shim

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// trim gives memory back that a start took: what the collector kept, and the pages of the
// program's own file that its start touched once. Those are as they are in the file; a
// page that is needed again comes from there. A host has one shim for each application,
// and most of the program is the agent's.
func trim() {
	debug.SetGCPercent(20) // from here on it does little, and lives long
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // it stays as large as it is
	}
	var parts [][2]uintptr
	var first, end uintptr
	var ours bool
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var a, b uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &a, &b, &mode); n == 3 {
			first, end = a, b
			ours = strings.Contains(line, " /") && strings.HasPrefix(mode, "r-")
			continue
		}
		// A loader changes pages before it makes them read-only: those are nowhere else.
		if ours && strings.HasPrefix(line, "Anonymous:") && strings.Fields(line)[1] == "0" {
			parts = append(parts, [2]uintptr{first, end - first})
		}
	}
	_ = f.Close()
	for _, p := range parts { // last of all, for everything else touches pages
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, p[0], p[1], unix.MADV_DONTNEED)
	}
}
