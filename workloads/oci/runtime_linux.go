package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/workloads/pace"
)

// ErrNone is in the chain of an error about a host without a runtime.
var ErrNone = errors.New("no container runtime")

// Kind names a family of runtimes.
type Kind string

// The runtimes that are known.
const (
	Crun  Kind = "crun"
	Runc  Kind = "runc"
	Runsc Kind = "runsc" // gVisor: a kernel of its own between the container and the host's
)

// Runtime is the command of an OCI runtime.
type Runtime struct {
	Path    string `json:"path"`
	Kind    Kind   `json:"kind"`
	Version string `json:"version"`
	State   string `json:"state"` // directory of its state, which a reboot empties
	// Options stand before every command.
	Options []string `json:"options,omitempty"`
	// Platform is by what runsc keeps an application's processes: systrap, ptrace, kvm; "":
	// not known, or no runsc.
	Platform string `json:"platform,omitempty"`
}

// Warnings tell of known ways out of the runtime, for doctor.
func (r Runtime) Warnings() []string {
	if r.Kind == Runsc && r.Platform == "ptrace" {
		return []string{fmt.Sprintf("runsc %s runs on ptrace: gVisor's kernels of all sandboxed applications are processes of one user, nobody, that see each other, so that who takes one over may get at another; want a version of 2023 or newer", r.Version)}
	}
	if r.Kind != Runc {
		return nil
	}
	number, _, _ := strings.Cut(r.Version, "-")
	number, _, _ = strings.Cut(number, "+")
	var v [3]int
	for i, part := range strings.SplitN(number, ".", 3) {
		v[i], _ = strconv.Atoi(part)
	}
	old := v[0] < 1 || v[0] == 1 && (v[1] < 2 || v[1] == 2 && v[2] < 8 || v[1] == 3 && v[2] <= 2)
	if !old {
		return nil
	}
	return []string{fmt.Sprintf("runc %s may have known ways out of a container (CVE-2025-31133, -52565, -52881): want 1.2.8, 1.3.3 or newer, or crun, unless the distribution has mended it", r.Version)}
}

// Start is what a container is started with.
type Start struct {
	ID     string
	Bundle string   // directory with config.json
	Output *os.File // standard output and error
	// Files are handed to the container as its descriptors 3 and up.
	Files []*os.File
	// Group is the container's control group; empty: not known.
	Group string
	// Alone says that it has no network. runsc has to be told; the others read it in the
	// configuration.
	Alone bool
}

// Run starts a container and returns its first process, a child of this one, once the
// application's program has been executed. Of runsc it is the process that waits for the
// application, hands signals on to it, and ends as it does.
func (r Runtime) Run(ctx context.Context, s Start) (pid int, err error) {
	pidFile := filepath.Join(s.Bundle, "pid")
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("start container %s: %w", s.ID, err)
	}
	complaints := s.complaints()
	_ = os.Remove(complaints)
	if r.Kind == Runsc {
		pid, err = r.attach(ctx, s, pidFile, complaints)
	} else {
		if pid, err = r.detach(ctx, s, pidFile, "run", "--detach"); err == nil {
			r.executed(ctx, pid)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("start container %s: %s: %w%s", s.ID, r.Kind, err, tail(complaints))
	}
	return pid, nil
}

// executed waits until a process is not the runtime's own program any more, which has told
// already that it runs: until then nobody can join it, and its filter may be missing. It gives
// up after a while, for an application may be called as the runtime is.
func (r Runtime) executed(ctx context.Context, pid int) {
	const pause, patience = 200 * time.Microsecond, 5000
	for range patience {
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		runtime := program == "/" || // it lies where the container does not reach
			strings.HasPrefix(program, "/memfd:") || filepath.Base(program) == filepath.Base(r.Path)
		if !runtime || err != nil || ctx.Err() != nil {
			return // it is the application, or has ended
		}
		time.Sleep(pause)
	}
}

// complaints is where the runtime's own go: its standard error is the application's.
func (s Start) complaints() string { return filepath.Join(s.Bundle, "runtime.log") }

// Create is Run up to the moment before the application's program is executed, which is
// what Begin then does. For runsc there is no such moment.
func (r Runtime) Create(ctx context.Context, s Start) (pid int, err error) {
	pidFile := filepath.Join(s.Bundle, "pid")
	if r.Kind == Runsc {
		return 0, fmt.Errorf("create container %s: %s takes no descriptors from the host", s.ID, r.Kind)
	}
	_ = os.Remove(s.complaints())
	if pid, err = r.detach(ctx, s, pidFile, "create"); err != nil {
		return 0, fmt.Errorf("create container %s: %s: %w%s", s.ID, r.Kind, err, tail(s.complaints()))
	}
	return pid, nil
}

// Begin executes the program of a container that Create made.
func (r Runtime) Begin(ctx context.Context, s Start) error {
	if err := r.command(ctx, "--log", s.complaints(), "start", s.ID).Run(); err != nil {
		return fmt.Errorf("start container %s: %s: %w%s", s.ID, r.Kind, err, tail(s.complaints()))
	}
	return nil
}

func (r Runtime) detach(ctx context.Context, s Start, pidFile string, how ...string) (int, error) {
	args := slices.Concat([]string{"--log", s.complaints()}, how, []string{"--bundle", s.Bundle, "--pid-file", pidFile})
	if len(s.Files) > 0 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(s.Files)))
	}
	c := r.command(ctx, append(args, s.ID)...)
	c.Stdout, c.Stderr, c.ExtraFiles = s.Output, s.Output, s.Files
	if err := pace.Run(c, pace.Exact); err != nil { // the application inherits it
		return 0, err
	}
	return readPID(pidFile)
}

func readPID(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err == nil && pid <= 1 {
		err = fmt.Errorf("process id: got %d", pid)
	}
	return pid, err
}

// command is the runtime's, without this process's environment.
func (r Runtime) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.Path, slices.Concat([]string{"--root", r.State}, r.Options, args)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = time.Second
	return c
}

// tail is what the runtime wrote last into its log.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil || len(b) == 0 {
		return ""
	}
	const most = 1000
	b = bytes.TrimSpace(b)
	return ": " + string(b[max(0, len(b)-most):])
}

// Delete takes a container away, running or not. One that is unknown is no error.
func (r Runtime) Delete(ctx context.Context, id string) error {
	out, err := r.command(ctx, "delete", "--force", id).CombinedOutput()
	if err == nil {
		return nil
	}
	// A runtime that was killed half way leaves a state that it cannot read itself.
	if gone := os.RemoveAll(filepath.Join(r.State, id)); gone != nil {
		return fmt.Errorf("delete container %s: %w: %.300s", id, errors.Join(err, gone), out)
	}
	return nil
}

// Forget takes a container away of which no process is left.
func (r Runtime) Forget(ctx context.Context, id string) error {
	if r.Kind == Runsc { // which has mounts of its own
		return r.Delete(ctx, id)
	}
	// The groups are the caller's to remove, and there is nothing else: no need to start
	// the runtime for it.
	if err := os.RemoveAll(filepath.Join(r.State, id)); err != nil {
		return fmt.Errorf("forget container %s: %w", id, err)
	}
	return nil
}

// Exec runs a command in a container, as the user and with the limits of the bundle's own
// process, and returns its exit code. When ctx ends the command is killed, with its
// process group and with whatever it started that has left that group.
func (r Runtime) Exec(ctx context.Context, s Start, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	id := s.ID
	dir, err := os.MkdirTemp(s.Bundle, "exec-")
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	process := filepath.Join(dir, "process.json")
	mark := markName + filepath.Base(dir)
	if err := writeProcess(filepath.Join(s.Bundle, "config.json"), process, argv, mark); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	pidFile := filepath.Join(dir, "pid")
	// Told nothing, crun would take the root user and the runtime's defaults.
	c := r.command(ctx, "exec", "--process", process, "--pid-file", pidFile, id)
	if r.Kind == Runsc { // which would complain on the command's standard error
		c = r.command(ctx, "--log", os.DevNull, "exec", "--process", process, "--internal-pid-file", pidFile, id)
	}
	c.Stdin, c.Stdout, c.Stderr = in, out, errs
	c.Cancel = func() error {
		if r.Kind == Runsc {
			return errors.Join(r.killInside(context.WithoutCancel(ctx), id, pidFile), c.Process.Kill())
		}
		// The runtime only waits for it, and is left a moment to see its end: nobody else
		// would reap it. The command has a group of its own.
		pid, err := readPID(pidFile)
		if err != nil {
			return c.Process.Kill()
		}
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return nil
	}
	err = pace.Run(c, pace.Exact)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		if s.Group != "" {
			Groups().KillMarked(s.Group, mark)
		}
		return 0, fmt.Errorf("exec in container %s: %w", id, ctx.Err())
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	return 0, nil
}

// markName begins the variable that tells a command's processes from the application's.
const markName = "TWINKEEL_EXEC="

// writeProcess takes the process of a configuration, with another command and one more
// variable.
func writeProcess(config, file string, argv []string, variable string) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var c struct {
		Process map[string]any `json:"process"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	c.Process["args"] = argv
	env, _ := c.Process["env"].([]any)
	c.Process["env"] = append(env, variable)
	if b, err = json.Marshal(c.Process); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
