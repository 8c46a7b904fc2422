package mount

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads"
)

// tick is above the grain of the times that a kernel keeps of files.
const tick = 20 * time.Millisecond

// Identify returns what tells f from what it could become, or the zero Identity if that
// is not possible yet: what was changed within the last tick can be changed once more and
// keep its time.
func Identify(f *os.File) workloads.Identity {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var s unix.Stat_t
	if err != nil || unix.Fstat(int(f.Fd()), &s) != nil || len(boot) == 0 {
		return workloads.Identity{}
	}
	changed := time.Unix(s.Ctim.Unix())
	if time.Since(changed) < tick { // or in the future, after the clock was set back
		return workloads.Identity{}
	}
	return workloads.Identity{Boot: strings.TrimSpace(string(boot)), Device: s.Dev, Inode: s.Ino, Size: s.Size, Changed: changed.UnixNano()}
}
