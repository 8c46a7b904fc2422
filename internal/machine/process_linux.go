package machine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process may take to end when asked to.
const grace = 10 * time.Second

// Process is a running command that leads a process group of its own.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed once it was reaped
}

// Start runs a command with its output in log, and not attached to the terminal.
func Start(command []string, log *os.File) (*Process, error) { return start(command, log, "") }

// start is Start with a "/" of the command's own, if root is not empty.
func start(command []string, log *os.File, root string) (*Process, error) {
	p := &Process{exec.Command(command[0], command[1:]...), make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Chroot: root}
	if root != "" {
		p.cmd.Dir = "/"
		p.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState keeps how it ended
		close(p.ended)
	}()
	return p, nil
}

func (p *Process) pid() int { return p.cmd.Process.Pid }

// Terminate asks the process to end, waits until it has, and kills what it left behind.
func (p *Process) Terminate() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.ended:
	case <-time.After(grace):
	}
	p.kill()
}

// kill ends the process and all of its group at once; they may be gone already.
func (p *Process) kill() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.ended
}

// Usage is what the agent and the processes it started have used.
type Usage struct {
	CPU  time.Duration // user and system
	Peak int64         // bytes: the greatest sum of the processes' resident peaks
}

// Usage returns what the agent used since the last call, over all boots.
func (m *Machine) Usage() Usage { return m.meter.take() }

// meter sums samples of a process and its children over several lives.
type meter struct {
	mu    sync.Mutex
	base  time.Duration // of lives that have ended
	life  time.Duration // of this life
	taken time.Duration // already returned by take
	peak  int64
}

// sample looks at the process pid and its children. The processor time of children that
// were reaped is in their parent's account.
func (m *meter) sample(pid int) {
	cpu, peak := account(pid, true)
	for _, c := range children(pid) {
		t, p := account(c, false)
		cpu += t
		peak += p
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life = max(m.life, cpu)
	m.peak = max(m.peak, peak)
}

func (m *meter) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base += m.life
	m.life = 0
}

func (m *meter) take() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := Usage{m.base + m.life - m.taken, m.peak}
	m.taken += u.CPU
	m.peak = 0
	return u
}

// account reads a process's time and peak resident size; 0 if it is gone. reaped adds
// the time of its reaped children.
func account(pid int, reaped bool) (cpu time.Duration, peak int64) {
	last := statSTime
	if reaped {
		last = statCSTime
	}
	f := stat(pid)
	for i := statUTime; i <= last && i < len(f); i++ {
		n, _ := strconv.ParseInt(f[i], 10, 64) // the kernel's own number
		cpu += time.Duration(n) * 10 * time.Millisecond
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
			kib, _, _ := strings.Cut(strings.TrimSpace(after), " ")
			n, _ := strconv.ParseInt(kib, 10, 64)
			peak = n << 10
		}
	}
	return cpu, peak
}

// Fields of /proc/PID/stat, counted from the one behind the name (proc(5)). Times are
// in ticks of 10 ms.
const (
	statPPID   = 1
	statUTime  = 11
	statSTime  = 12
	statCSTime = 14
)

// stat returns the fields behind the name, which may hold anything; nil if pid is gone.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// children lists the living child processes of pid.
func children(pid int) (pids []int) {
	parent := strconv.Itoa(pid)
	entries, _ := os.ReadDir("/proc") // without /proc there is no account
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := stat(n); len(f) > statPPID && f[statPPID] == parent {
			pids = append(pids, n)
		}
	}
	return pids
}
