package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/pace"
)

// sandboxOptions are those that a version of runsc knows of the ones that make it do what
// a configuration says: filter system calls, and write into no copy of the root that is in
// memory. It refuses to start by an option that it does not know. The platform is by what
// it keeps its processes, if it does not say otherwise: ptrace in versions before 2023.
func sandboxOptions(ctx context.Context, path string) (options []string, platform string) {
	known, err := exec.CommandContext(ctx, path, "flags").CombinedOutput()
	if err != nil {
		return nil, ""
	}
	if _, rest, ok := bytes.Cut(known, []byte("  -platform string\n")); ok {
		line, _, _ := bytes.Cut(rest, []byte{'\n'})
		if _, rest, ok := bytes.Cut(line, []byte(`(default "`)); ok {
			name, _, _ := bytes.Cut(rest, []byte{'"'})
			platform = string(name)
		}
	}
	for _, o := range []string{"--oci-seccomp", "--overlay2=none"} {
		name, _, _ := strings.Cut(strings.TrimLeft(o, "-"), "=")
		if bytes.Contains(known, []byte("  -"+name+"\n")) || bytes.Contains(known, []byte("  -"+name+" ")) {
			options = append(options, o)
		}
	}
	return options, platform
}

// attachPause is how often is asked whether a container of runsc runs.
const attachPause = 10 * time.Millisecond

// attach starts a container by a process of runsc that stays. gVisor tells the exit code
// of an application to nobody else: the process of its own kernel, which a detached start
// leaves as our child, ends with success whatever the application did.
func (r Runtime) attach(ctx context.Context, s Start, pidFile, complaints string) (int, error) {
	if len(s.Files) > 0 {
		return 0, errors.New("it takes no descriptors from the host")
	}
	args := []string{"--log", complaints}
	if s.Alone {
		args = append(args, "--network=none")
	}
	// Not by ctx, which is the start's: the process outlives it.
	c := r.command(context.WithoutCancel(ctx), append(args, "run", "--bundle", s.Bundle, "--pid-file", pidFile, s.ID)...)
	c.Stdout, c.Stderr = s.Output, s.Output
	if err := pace.Start(c, pace.Exact); err != nil {
		return 0, err
	}
	for {
		if ended(c.Process.Pid) {
			// An application may have ended before anybody asked for it. Of what it could not
			// start runsc complains.
			if _, err := os.Stat(pidFile); err == nil && tail(complaints) == "" {
				return c.Process.Pid, nil
			}
			return 0, fmt.Errorf("it did not start: %w", c.Wait())
		}
		if _, err := os.Stat(pidFile); err == nil {
			if st := r.state(ctx, s.ID); st == "running" || st == "stopped" {
				return c.Process.Pid, nil
			}
		}
		select {
		case <-ctx.Done():
			_ = c.Process.Kill()
			return 0, errors.Join(ctx.Err(), c.Wait())
		case <-time.After(attachPause):
		}
	}
}

// ended reports whether a child has ended, and leaves it to be waited for.
func ended(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD)
}

// state is what the runtime says of a container; empty: nothing.
func (r Runtime) state(ctx context.Context, id string) string {
	out, err := r.command(ctx, "--log", os.DevNull, "state", id).Output()
	var st struct {
		Status string `json:"status"`
	}
	if err != nil || json.Unmarshal(out, &st) != nil {
		return ""
	}
	return st.Status
}

// killInside ends a process in the container of a runtime whose processes the host does
// not see: the one whose number is in file.
func (r Runtime) killInside(ctx context.Context, id, file string) error {
	pid, err := readPID(file)
	if err != nil {
		return err
	}
	return r.command(ctx, "--log", os.DevNull, "kill", "--pid", strconv.Itoa(pid), id, "KILL").Run()
}
