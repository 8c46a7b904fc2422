package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/oci"
)

// request is what a client asks, one on each connection, as a line of JSON. With exec
// come three descriptors; with sockets' answer go those of the application.
type request struct {
	Op   string   `json:"op"` // status, check, stop, end, exec or sockets
	Argv []string `json:"argv,omitempty"`
}

type answer struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
	Code   int     `json:"code,omitempty"`
}

const (
	maxMessage = 128 << 10
	maxFiles   = 64 // descriptors in one message
)

// listen answers on the socket until the returned function is called. The directory is
// root's, and so is whoever reaches the socket.
func (s *supervisor) listen() (stop func(), err error) {
	path := filepath.Join(s.dir, socketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := listenAt(path)
	if err != nil {
		return nil, fmt.Errorf("shim: listen: %w", err)
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return func() { _ = l.Close() }, nil
}

// backlog is how many clients may wait. Package net would read the kernel's limit from a
// file, for each shim anew.
const backlog = 64

// listenAt listens on a socket that nobody but root reaches.
func listenAt(path string) (*net.UnixListener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // the listener has one of its own
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("got a %T", l), l.Close())
	}
	return u, nil
}

func (s *supervisor) serve(c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	s.answers.Add(1)
	defer s.answers.Add(-1)
	defer s.restSoon()
	b, files, err := receive(c)
	defer closeAll(files)
	var r request
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return // whoever asked has gone, or is not one of ours
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // a client that leaves wants no answer
		_, _ = c.Read(make([]byte, 1))
		cancel()
	}()
	var a answer
	var give []*os.File
	switch r.Op {
	case "status":
		st := s.status.get()
		a.Status = &st
	case "check":
		err = s.check(ctx)
	case "stop", "end":
		// This process ends with its application, and still has to say so.
		done := make(chan error, 1)
		s.stops <- stopping{r.Op == "end", done}
		err = <-done
	case "exec":
		if len(files) != 3 || len(r.Argv) == 0 {
			err = fmt.Errorf("exec: got %d descriptors and %d words, want 3 and at least 1", len(files), len(r.Argv))
			break
		}
		a.Code, err = s.cage.exec(ctx, r.Argv, files[0], files[1], files[2])
	case "sockets":
		give = s.sockets
	default:
		err = fmt.Errorf("got operation %.20q", r.Op)
	}
	if err != nil {
		a.Error = err.Error()
	}
	if b, err := json.Marshal(&a); err == nil {
		_ = send(c, b, give)
	}
}

// send writes one message, with files.
func send(c *net.UnixConn, b []byte, files []*os.File) error {
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(append(b, '\n'), rights, nil)
	return err
}

// receive reads one message, to the end of its line, and the files that came with it.
func receive(c *net.UnixConn) (b []byte, files []*os.File, err error) {
	buf, oob := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(maxFiles*4))
	for {
		n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
		if oobn > 0 {
			files = append(files, parseFiles(oob[:oobn])...)
		}
		b = append(b, buf[:max(n, 0)]...) // -1 if the other end is gone
		switch {
		case bytes.HasSuffix(b, []byte{'\n'}):
			return b, files, nil
		case err == nil && n == 0, len(b) > maxMessage:
			return nil, files, fmt.Errorf("message of %d bytes: got no end of line", len(b))
		case err != nil:
			return nil, files, err
		}
	}
}

func parseFiles(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Client asks the shim of a directory.
type Client struct {
	Dir string
}

// Alive reports whether a shim holds the directory.
func (c Client) Alive() (bool, error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, lockFile), os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// ask sends one request and waits for its answer.
func (c Client) ask(ctx context.Context, r request, give []*os.File) (answer, []*os.File, error) {
	var a answer
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(c.Dir, socketFile), Net: "unix"})
	if err != nil {
		return a, nil, fmt.Errorf("ask shim: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	b, err := json.Marshal(&r)
	if err == nil {
		err = send(conn, b, give)
	}
	var files []*os.File
	if err == nil {
		b, files, err = receive(conn)
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		closeAll(files)
		return a, nil, fmt.Errorf("ask shim for %s: %w", r.Op, errors.Join(ctx.Err(), err))
	}
	if a.Error != "" {
		closeAll(files)
		return a, nil, errors.New(a.Error)
	}
	return a, files, nil
}

// Status asks how the application is.
func (c Client) Status(ctx context.Context) (Status, error) {
	a, _, err := c.ask(ctx, request{Op: "status"}, nil)
	if err != nil || a.Status == nil {
		return Status{}, err
	}
	return *a.Status, nil
}

// Check makes the manifest's check once; nil is healthy.
func (c Client) Check(ctx context.Context) error {
	_, _, err := c.ask(ctx, request{Op: "check"}, nil)
	return err
}

// Stop ends the application, and then the shim ends itself.
func (c Client) Stop(ctx context.Context) error {
	_, _, err := c.ask(ctx, request{Op: "stop"}, nil)
	return err
}

// End is Stop that returns when nothing of the application runs any more. What it leaves
// is then taken away by the shim, which ends itself.
func (c Client) End(ctx context.Context) error {
	_, _, err := c.ask(ctx, request{Op: "end"}, nil)
	return err
}

// Exec runs a command in the application's container with these descriptors as its own.
func (c Client) Exec(ctx context.Context, argv []string, in, out, errs *os.File) (int, error) {
	a, _, err := c.ask(ctx, request{Op: "exec", Argv: argv}, []*os.File{in, out, errs})
	return a.Code, err
}

// Sockets are copies of the listening sockets that the shim keeps, in the order of the
// manifest. The caller closes them.
func (c Client) Sockets(ctx context.Context) ([]*os.File, error) {
	_, files, err := c.ask(ctx, request{Op: "sockets"}, nil)
	return files, err
}

// CleanUp ends what is left of the application of a directory whose shim is gone, and
// does what a shim does at its end.
func CleanUp(ctx context.Context, dir string) error {
	o, err := ReadOrder(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	groups := oci.Groups()
	for _, g := range []string{o.group(), o.ownGroup()} {
		if err := groups.Kill(ctx, g); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(o.Runtime.State, o.ID)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return o.Runtime.Delete(ctx, o.ID)
}
