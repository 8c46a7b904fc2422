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
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNone is in the chain of an error about a host without a runtime.
var ErrNone = errors.New("no container runtime")

// Runtime is the command of an OCI runtime.
type Runtime struct {
	Path    string `json:"path"`
	Kind    string `json:"kind"` // crun or runc
	Version string `json:"version"`
	State   string `json:"state"` // directory of its state, which a reboot empties
}

// kinds are the runtimes that are known, the ones that cost less first.
var kinds = []string{"crun", "runc"}

var versionLine = regexp.MustCompile(`^(crun|runc) version (\d+(\.\d+){1,2}\S*)`)

// Find looks for a runtime: at path if it is not empty, else among the host's commands.
func Find(ctx context.Context, path, state string) (Runtime, error) {
	candidates := []string{path}
	if path == "" {
		candidates = kinds
	}
	var problems []error
	for _, c := range candidates {
		full, err := exec.LookPath(c)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		out, err := exec.CommandContext(ctx, full, "--version").Output()
		if err != nil {
			problems = append(problems, fmt.Errorf("%s --version: %w", full, err))
			continue
		}
		v := versionLine.FindSubmatch(out)
		if v == nil {
			problems = append(problems, fmt.Errorf("%s --version: got %.60q, want crun or runc", full, out))
			continue
		}
		return Runtime{Path: full, Kind: string(v[1]), Version: string(v[2]), State: state}, nil
	}
	return Runtime{}, fmt.Errorf("%w: %w", ErrNone, errors.Join(problems...))
}

// Warnings tell of known ways out of the runtime, for doctor.
func (r Runtime) Warnings() []string {
	if r.Kind != "runc" {
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
}

// Run starts a container and returns its first process, a child of this one, once the
// application's program has been executed.
func (r Runtime) Run(ctx context.Context, s Start) (pid int, err error) {
	pidFile := filepath.Join(s.Bundle, "pid")
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("start container %s: %w", s.ID, err)
	}
	args := []string{"run", "--detach", "--bundle", s.Bundle, "--pid-file", pidFile}
	if len(s.Files) > 0 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(s.Files)))
	}
	// The runtime's own complaints go to a file: its standard error is the application's.
	complaints := filepath.Join(s.Bundle, "runtime.log")
	_ = os.Remove(complaints)
	c := r.command(ctx, append([]string{"--log", complaints}, append(args, s.ID)...)...)
	c.Stdout, c.Stderr, c.ExtraFiles = s.Output, s.Output, s.Files
	if err := c.Run(); err != nil {
		return 0, fmt.Errorf("start container %s: %s: %w%s", s.ID, r.Kind, err, tail(complaints))
	}
	b, err := os.ReadFile(pidFile)
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return 0, fmt.Errorf("start container %s: process id: %w", s.ID, err)
	}
	return pid, nil
}

// command is the runtime's, without this process's environment.
func (r Runtime) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, r.Path, append([]string{"--root", r.State}, args...)...)
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

// Exec runs a command in a container, as the user and with the limits of the bundle's own
// process, and returns its exit code. When ctx ends the command is killed, with its
// process group.
func (r Runtime) Exec(ctx context.Context, s Start, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	id := s.ID
	dir, err := os.MkdirTemp(s.Bundle, "exec-")
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	process := filepath.Join(dir, "process.json")
	if err := writeProcess(filepath.Join(s.Bundle, "config.json"), process, argv); err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	pidFile := filepath.Join(dir, "pid")
	// Told nothing, crun would take the root user and the runtime's defaults.
	c := r.command(ctx, "exec", "--process", process, "--pid-file", pidFile, id)
	c.Stdin, c.Stdout, c.Stderr = in, out, errs
	c.Cancel = func() error {
		// The runtime only waits for it, and is left a moment to see its end: nobody else
		// would reap it. The command has a group of its own.
		b, err := os.ReadFile(pidFile)
		if err != nil {
			return c.Process.Kill()
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || pid <= 1 {
			return c.Process.Kill()
		}
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return nil
	}
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("exec in container %s: %w", id, ctx.Err())
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	return 0, nil
}

// writeProcess takes the process of a configuration, with another command.
func writeProcess(config, file string, argv []string) error {
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
	if b, err = json.Marshal(c.Process); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
