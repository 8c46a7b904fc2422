package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads"
)

// flood is how many bytes of output are taken without a rest. An application that writes
// without end waits for its shim, which so takes little of the processor.
const (
	flood = 256 << 10
	rest  = 10 * time.Millisecond
)

// trialLog is how many bytes a trial's own log keeps. It lies in memory.
const trialLog = 64 << 10

// openOutput makes the pipe for the application's output and starts to empty it. The
// pipe has a name: what an application wrote when its shim was killed is still in it.
func (s *supervisor) openOutput(context.Context) error {
	path := filepath.Join(s.dir, outputPipe)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("pipe for output: %w", err)
	}
	// The application may open its own output a second time (/dev/stderr): it is its own.
	m := s.order.Unit.Manifest
	if err := os.Chown(path, int(s.order.FirstID+m.Run.UID), int(s.order.FirstID+m.Run.GID)); err != nil {
		return err
	}
	// Opened for both, reading never finds the other end closed.
	in, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pipe for output: %w", err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pipe for output: %w", err)
	}
	s.output = os.NewFile(uintptr(fd), path)
	if err := os.MkdirAll(filepath.Dir(s.order.Log), 0o700); err != nil {
		return err
	}
	r, err := openRing(s.order.Log, m.Limits.Log)
	if err != nil {
		return err
	}
	to := io.Writer(r)
	if s.order.TrialLog != "" {
		own, err := openRing(s.order.TrialLog, trialLog)
		if err != nil {
			return err
		}
		to = io.MultiWriter(r, own) // neither ever fails
	}
	go func() {
		if _, err := io.Copy(&lines{to: to, now: time.Now}, &rested{from: in}); err != nil {
			s.log.Error("output is lost from here on", "err", err)
		}
	}()
	return nil
}

// drain waits until the application's last words have been taken out of the pipe, and
// then a moment for them to be written.
func (s *supervisor) drain() {
	const most = 200 // milliseconds; an unwritable disk must not keep a shim
	for empty, i := 0, 0; empty < 3 && i < most; i++ {
		if n, err := unix.IoctlGetInt(int(s.output.Fd()), unix.TIOCINQ); err != nil || n == 0 {
			empty++
		}
		time.Sleep(time.Millisecond)
	}
}

// rested reads no more than flood without a rest.
type rested struct {
	from io.Reader
	n    int
}

func (r *rested) Read(b []byte) (int, error) {
	if r.n >= flood {
		time.Sleep(rest)
		r.n = 0
	}
	n, err := r.from.Read(b[:min(len(b), 16<<10)])
	r.n += n
	return n, err
}

// lines puts the time before each line.
type lines struct {
	to      io.Writer
	now     func() time.Time
	partial bool // the last byte written was not the end of a line
	buf     []byte
}

func (l *lines) Write(b []byte) (int, error) {
	stamp := l.now().UTC().Format(workloads.LogTime) + " "
	l.buf = l.buf[:0]
	for _, c := range b {
		if !l.partial {
			l.buf = append(l.buf, stamp...)
		}
		l.partial = c != '\n'
		l.buf = append(l.buf, c)
	}
	if _, err := l.to.Write(l.buf); err != nil {
		return 0, err
	}
	return len(b), nil
}

// ring is two files of at most half the limit each: the newer, and the one before.
type ring struct {
	path string
	half int64
	f    *os.File
	size int64
}

func openRing(path string, limit int64) (*ring, error) {
	r := &ring{path: path, half: limit / 2}
	return r, r.open()
}

func (r *ring) open() (err error) {
	r.f, err = os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("log %s: %w", r.path, err)
	}
	info, err := r.f.Stat()
	if err != nil {
		return errors.Join(err, r.f.Close())
	}
	r.size = info.Size()
	return nil
}

// Write keeps b, in place of the oldest. That a disk is full loses output, never the
// application: there is no error.
func (r *ring) Write(b []byte) (int, error) {
	all := len(b)
	for len(b) > 0 {
		if r.size >= r.half {
			_ = r.f.Close()
			if err := os.Rename(r.path, r.path+".1"); err != nil {
				_ = os.Remove(r.path)
			}
			if err := r.open(); err != nil {
				return all, nil
			}
		}
		part := b[:min(int64(len(b)), r.half-r.size)]
		n, err := r.f.Write(part)
		r.size += int64(n)
		if err != nil {
			return all, nil
		}
		b = b[n:]
	}
	return all, nil
}
