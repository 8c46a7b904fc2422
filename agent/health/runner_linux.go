package health

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Failure is a probe that was carried out and says no.
type Failure struct {
	Text   string // one line
	Output string // the end of what the command wrote, at most MaxEvidence bytes
}

// Error returns the text.
func (f *Failure) Error() string { return f.Text }

// Runner carries out probes on this machine.
type Runner struct {
	Network   Network  // for http and tcp
	Systemctl []string // how to call systemctl; empty: "systemctl" in the usual places
}

// Check carries out p once. It returns nil if p is healthy, and at the latest shortly
// after p.Timeout (DefaultTimeout if that is 0) or the end of ctx.
func (r *Runner) Check(ctx context.Context, p Probe) error {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, min(timeout, MaxTimeout))
	defer cancel()
	switch {
	case p.Unit != "":
		return r.unit(ctx, p)
	case len(p.Command) > 0:
		return run(ctx, p.Command, p.Name)
	case r.Network == nil:
		return &Failure{Text: "no network to probe from"}
	}
	return r.Network.Probe(ctx, p)
}

func (r *Runner) unit(ctx context.Context, p Probe) error {
	argv := r.Systemctl
	if len(argv) == 0 {
		argv = []string{"systemctl"}
	}
	err := run(ctx, append(argv[:len(argv):len(argv)], "is-active", "--", p.Unit), p.Name)
	var f *Failure
	if errors.As(err, &f) && f.Output != "" {
		return &Failure{Text: fmt.Sprintf("unit %s is %s", p.Unit, strings.TrimSpace(firstLine(f.Output))), Output: f.Output}
	}
	return err
}

// probeEnv is all of a probe's environment but its name: nothing of the agent's own.
var probeEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

// leftoverGrace is how long a finished probe's children may keep its output open.
const leftoverGrace = time.Second

// killGrace is how long a killed probe is waited for.
const killGrace = leftoverGrace + 2*time.Second

// run runs argv in a process group of its own and kills all of that group when argv
// is done or ctx ends, so that a probe that forks leaves nothing behind. A child that
// makes itself a session of its own escapes the kill, but not the unit's cgroup, and
// it cannot hold up the agent.
func run(ctx context.Context, argv []string, name string) error {
	out := &tail{max: MaxEvidence}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(probeEnv[:len(probeEnv):len(probeEnv)], "TWINKEEL_PROBE="+name)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = leftoverGrace
	if err := cmd.Start(); err != nil {
		return &Failure{Text: err.Error()}
	}
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() {
		waitUnreaped(cmd.Process.Pid)
		// The leader is not reaped yet, so its number still means this group.
		_ = unix.Kill(group, unix.SIGKILL)
		ended <- cmd.Wait()
	}()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = unix.Kill(group, unix.SIGKILL)
		late := &Failure{Text: fmt.Sprintf("%s: no answer in time (%v)", argv[0], context.Cause(ctx))}
		select {
		case <-ended:
			late.Output = out.String()
		case <-time.After(killGrace):
			// Stuck in the kernel, where no signal ends it; it is reaped when it can be.
		}
		return late
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // exit code 0; only the output was kept open by somebody
	}
	if err != nil {
		text := fmt.Sprintf("%s: %v", argv[0], err)
		if l := lastLine(out.String()); l != "" {
			text += ": " + l
		}
		return &Failure{Text: firstLine(text), Output: out.String()}
	}
	return nil
}

// waitUnreaped returns when the process has ended and leaves it to be reaped.
func waitUnreaped(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// tail keeps the last max bytes written to it.
type tail struct {
	max  int
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > t.max {
		p = p[n-t.max:]
	}
	if over := len(t.data) + len(p) - t.max; over > 0 {
		t.data = t.data[:copy(t.data, t.data[over:])]
	}
	t.data = append(t.data, p...)
	return n, nil
}

func (t *tail) String() string { return strings.ToValidUTF8(string(t.data), "\uFFFD") }

func lastLine(s string) string {
	s = strings.TrimRight(s, "\r\n \t")
	return s[strings.LastIndexByte(s, '\n')+1:]
}
