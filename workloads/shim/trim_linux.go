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
// program's own file that its start touched once. Those are read-only; a page that is
// needed again comes from the file. A host has one shim for each application, and most of
// the program is the agent's.
func trim() {
	debug.SetGCPercent(20) // from here on it does little, and lives long
	debug.FreeOSMemory()
	var parts [][2]uintptr
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return // it stays as large as it is
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var first, end uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &first, &end, &mode); err != nil {
			continue
		}
		if strings.Contains(lines.Text(), " /") && mode[0] == 'r' && mode[1] == '-' {
			parts = append(parts, [2]uintptr{first, end - first})
		}
	}
	_ = f.Close()
	for _, p := range parts { // last of all, for every other thing touches pages
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, p[0], p[1], unix.MADV_DONTNEED)
	}
}
