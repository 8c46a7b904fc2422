package stray

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rounds are how often is looked for forks that were under way.
const rounds = 100

// End ends those of pids, asked for again and again, that have variable, NAME=value, in
// their environment. They are stopped before the first one is killed, so that those that
// fork for ever come to an end; what hides its environment stays.
func End(pids func() []int, variable string) {
	stopped := map[int]bool{}
	for range rounds {
		before := len(stopped)
		for _, pid := range pids() {
			if !stopped[pid] && marked(pid, variable) && unix.Kill(pid, unix.SIGSTOP) == nil {
				stopped[pid] = true
			}
		}
		if len(stopped) == before {
			break
		}
	}
	for pid := range stopped {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// marked reports whether a process has a variable in its environment.
func marked(pid int, variable string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.Contains(strings.Split(string(b), "\x00"), variable)
}

// All are the processes of this machine but the first one.
func All() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}
