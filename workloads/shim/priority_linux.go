package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ioprioWhoProcess means a thread, to the calls about priorities of input and output
// (linux/include/uapi/linux/ioprio.h), and 0 is the priority that follows from the others.
const ioprioWhoProcess = 1

// standUp gives this process, and so the application, the priorities that processes begin
// with, whatever the agent was started with: an update has time, and an application does
// not.
func standUp() error {
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return fmt.Errorf("priority: %w", err)
	}
	io, _, no := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
	if no == 0 && own.Policy == unix.SCHED_NORMAL && own.Nice == 0 && io == 0 {
		return nil
	}
	// Each thread has its own, and gives them to the threads and processes that it starts:
	// the second round is for those that were started meanwhile.
	return errors.Join(standUpThreads(), standUpThreads())
}

func standUpThreads() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("priority: %w", err)
	}
	normal := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}
	var problems []error
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		err = unix.SchedSetAttr(id, &normal, 0)
		if _, _, no := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(id), 0); no != 0 {
			err = errors.Join(err, no)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // a thread that ended
			problems = append(problems, fmt.Errorf("priority of thread %d: %w", id, err))
		}
	}
	return errors.Join(problems...)
}
