package shim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxSaid is what is kept of a check's words.
const maxSaid = 4 << 10

// check makes the manifest's check once; nil is healthy.
func (s *supervisor) check(ctx context.Context) error {
	h := s.order.Unit.Manifest.Health
	st := s.status.get()
	if !st.State.Running {
		return fmt.Errorf("does not run; ended last: %s", st.State.Exit)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
	defer cancel()
	switch {
	case h.HTTP != "":
		port, path, _ := strings.Cut(strings.TrimPrefix(h.HTTP, ":"), "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("http: %w", err)
		}
		return s.http(ctx, uint16(n), "/"+path)
	case h.TCP != 0:
		c, err := s.dial(ctx, h.TCP)
		if err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
		return c.Close()
	case len(h.Exec) > 0:
		said := &limited{most: maxSaid}
		code, err := s.cage.exec(ctx, h.Exec, nil, said, said)
		if err == nil && code != 0 {
			err = fmt.Errorf("exec: exit code %d: %s", code, bytes.TrimSpace(said.b))
		}
		return err
	}
	return nil
}

// limited keeps the first bytes and drops the rest.
type limited struct {
	b    []byte
	most int
}

func (l *limited) Write(b []byte) (int, error) {
	l.b = append(l.b, b[:min(len(b), l.most-len(l.b))]...)
	return len(b), nil
}

// http asks for a path and wants an answer of class 2 or 3. A client of 30 lines is all
// that this takes.
func (s *supervisor) http(ctx context.Context, port uint16, path string) error {
	c, err := s.dial(ctx, port)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	defer func() { _ = c.Close() }()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: twinkeel\r\nConnection: close\r\n\r\n", path, port); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	line, err := bufio.NewReaderSize(c, 1<<10).ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("http: answer: %w", err)
	}
	if err := judge(line); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}

// judge reads the first line of an answer.
func judge(line []byte) error {
	fields := bytes.Fields(line)
	if len(fields) < 2 || !bytes.HasPrefix(fields[0], []byte("HTTP/1.")) || len(fields[1]) != 3 {
		return fmt.Errorf("answer: got %.40q, want HTTP/1.1 and a code", line)
	}
	if class := fields[1][0]; class != '2' && class != '3' {
		return fmt.Errorf("got %.3q, want 2xx or 3xx", fields[1])
	}
	return nil
}

// dial connects to a port of the application, from inside its network. A port of a
// socket that was handed over is the host's.
func (s *supervisor) dial(ctx context.Context, port uint16) (net.Conn, error) {
	m := s.order.Unit.Manifest
	for i, h := range m.Network.Sockets {
		if at, err := netip.ParseAddrPort(h.Listen); err != nil || at.Port() != port {
			continue
		}
		// Not the manifest's address: a trial was handed another one.
		at, err := listens(s.sockets[i])
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, "tcp", at.String())
	}
	return s.cage.dial(ctx, port)
}

// listens is where a socket can be reached from this host.
func listens(f *os.File) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address of %s: %w", f.Name(), err)
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		addr := netip.AddrFrom4(a.Addr)
		if addr.IsUnspecified() {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return netip.AddrPortFrom(addr, uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(a.Addr)
		if addr.IsUnspecified() {
			addr = netip.IPv6Loopback()
		}
		return netip.AddrPortFrom(addr, uint16(a.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("address of %s: got family %T, want the internet's", f.Name(), sa)
}

// dialInside connects from the network namespace of a process. A socket belongs to the
// namespace that it was made in.
func dialInside(ctx context.Context, pid int, address string) (net.Conn, error) {
	type answer struct {
		c   net.Conn
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		err := inside(pid, func() {
			// An address of numbers and one family: the dialer stays on this thread.
			a.c, a.err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp4", address)
		})
		if err != nil {
			a.err = fmt.Errorf("enter the network of process %d: %w", pid, err)
		}
		done <- a
	}()
	a := <-done
	return a.c, a.err
}

// inside does something in the network namespace of a process, and comes back. If it
// cannot come back, the thread ends with the goroutine that called it.
func inside(pid int, do func()) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = own.Close() }()
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err == nil {
		err = unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET)
		_ = theirs.Close()
	}
	if err != nil { // it has gone nowhere
		runtime.UnlockOSThread()
		return err
	}
	do()
	// A thread for each check would be thrown away, with the stacks of it.
	if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return nil
}
