package shim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphanPause is how often is looked for orphans once there may be some.
const orphanPause = 100 * time.Millisecond

// adopt waits for the processes in the container that lose the runtime that started them, when
// a command in it is cut off: they become this process's. The application's first process, as
// that of a namespace, does not end before each of the others was waited for. It goes on until
// that has ended, pid, or another was started.
func (s *supervisor) adopt() {
	if !s.adopting.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.adopting.Store(false)
		for pid := s.status.get().PID; pid != 0 && s.status.get().PID == pid; time.Sleep(orphanPause) {
			reapOrphans(pid)
		}
	}()
}

// reapOrphans waits for children that have ended, except for the application's first process,
// and for those that this process started itself: they are in no namespace of processes but
// its own.
func reapOrphans(app int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range lists {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid == app {
				continue
			}
			if inContainer(pid) {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}
}

// inContainer reports whether a process has a number in a namespace within this one's.
func inContainer(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(numbers)) > 1
		}
	}
	return false
}
