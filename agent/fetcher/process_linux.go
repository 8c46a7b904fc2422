package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	// grace is how long the process may take to end by itself.
	grace = 2 * time.Second
	// tailSize is how much of what the process writes to stderr is kept.
	tailSize = 2 << 10
)

// process is the running child.
type process struct {
	control *net.UnixConn
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{} // closed when the process is gone
	err     error         // how it ended; read after done
	output  *tail
}

// startProcess runs this program's own binary once more, with the argument "fetcher"
// and one end of a socket as descriptor 3.
func startProcess(o Options) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	p := &process{control: ours, started: time.Now(), done: make(chan struct{}), output: &tail{}}
	if p.cmd, err = command(o, theirs, p.output); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start fetcher: %w", err), ours.Close())
	}
	b, err := json.Marshal(limits(o.Memory, p.cmd.SysProcAttr.Credential != nil))
	if err == nil {
		err = wire.Send(p.control, wire.KindLimits, b, nil)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("start fetcher: limits: %w", err)
	}
	return p, nil
}

// command describes the process. /proc/self/exe is the very file that runs now, even
// when an update has replaced it on disk, and needs no right to walk to it.
func command(o Options, socket *os.File, output *tail) (*exec.Cmd, error) {
	name := "twinkeeld"
	if self, err := os.Executable(); err == nil {
		name = filepath.Base(self)
	}
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{name, "fetcher"},
		Env:        environment(),
		Dir:        "/",
		Stderr:     output,
		ExtraFiles: []*os.File{socket},
		WaitDelay:  grace,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	if os.Geteuid() == 0 {
		c, err := credential(o.User)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = c
	}
	return cmd, nil
}

// environment keeps what finds a proxy and the system's certificates, and no more.
func environment() []string {
	env := []string{}
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// run starts the process and waits for it, on a thread of its own: the parent-death
// signal and the privileges to give up belong to threads, and this one ends with the
// process.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	err := confineThread()
	if err == nil {
		err = p.cmd.Start()
	}
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// connect hands the process one end of a new connection and returns the other.
func (p *process) connect(deadline time.Time) (*net.UnixConn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	err = p.control.SetWriteDeadline(deadline)
	if err == nil {
		err = wire.Send(p.control, wire.KindConn, nil, theirs)
	}
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return ours, nil
}

// stop asks the process to end by closing the control connection, and makes sure.
func (p *process) stop() {
	_ = p.control.Close()
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.control.Close()
	_ = p.cmd.Process.Kill()
	<-p.done
}

// socketPair returns two connected stream sockets: one to use, one to pass on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "fetcher"), os.NewFile(uintptr(fds[1]), "writer")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socket pair: %w", err), theirs.Close())
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("socket pair: got %T, want a Unix socket", conn), conn.Close(), theirs.Close())
	}
	return uc, theirs, nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-tailSize):]...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(p), nil
}

// String returns what was kept, quoted where it is not printable.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strconv.QuoteToASCII(string(t.b))
}

// log reports how the process ended.
func (p *process) log(ctx context.Context, log *slog.Logger) {
	log.WarnContext(ctx, "fetcher ended", "error", p.err, "output", p.output.String())
}
