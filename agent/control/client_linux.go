package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
)

// ErrNoDaemon is in the chain of a Client's error when nobody listens at its socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Client is an agent.Operator that asks the daemon.
type Client struct {
	Path string // of the socket
}

// Do sends one request. An end of ctx hangs up, which interrupts what was asked for.
func (c *Client) Do(ctx context.Context, r agent.Request, emit func(agent.Event)) (agent.Result, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return agent.Result{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// An answer may already be there when not all could be sent: it says why.
	sent := sendRequest(conn, r)
	result, err := readReplies(conn, emit)
	switch {
	case ctx.Err() != nil:
		return agent.Result{}, ctx.Err()
	case err != nil && sent != nil && agent.CodeOf(err) == "":
		return agent.Result{}, sent
	}
	return result, err
}

func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Path)
	switch {
	case err == nil:
		return conn.(*net.UnixConn), nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s", ErrNoDaemon, c.Path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("control socket %s: only root and members of group %s may connect: %w", c.Path, GroupName, err)
	}
	return nil, fmt.Errorf("control socket %s: %w", c.Path, err)
}

func sendRequest(conn *net.UnixConn, r agent.Request) error {
	file := r.Bundle
	if r.Verb == agent.VerbInit && len(r.Factory) > 0 {
		f, err := inMemory(r.Factory)
		if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		defer f.Close()
		file, r.Factory = f, nil
	}
	b, err := json.Marshal(message{Format: format, File: file != nil, Request: r})
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	b = append(b, '\n')
	if len(b) > MaxRequest {
		return &agent.Refusal{Reason: agent.Reason{Code: agent.CodeUsage, Text: fmt.Sprintf("request: got %d bytes, want at most %d", len(b), MaxRequest)}}
	}
	if err := conn.SetWriteDeadline(time.Now().Add(RequestTime)); err != nil {
		return err
	}
	if file != nil {
		n, err := sendFile(conn, b, file)
		if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		b = b[n:]
	}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return nil
}

// inMemory returns a file with that content, which is nowhere on a disk.
func inMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("manifest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "manifest")
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sendFile sends f with the first bytes of b, and returns how many it sent.
func sendFile(conn *net.UnixConn, b []byte, f *os.File) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		n, _, inner = conn.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	})
	return n, errors.Join(err, inner)
}

// readReplies hands on events until the result or the error.
func readReplies(conn io.Reader, emit func(agent.Event)) (agent.Result, error) {
	lines := bufio.NewReader(conn)
	for {
		line, err := readLine(lines)
		if err != nil {
			return agent.Result{}, fmt.Errorf("answer of the daemon: %w", err)
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			return agent.Result{}, fmt.Errorf("answer of the daemon: %w", err)
		}
		switch {
		case r.Error != nil:
			return agent.Result{}, r.Error.err()
		case r.Result != nil:
			return *r.Result, nil
		case r.Event != nil && emit != nil:
			emit(*r.Event)
		}
	}
}

// readLine reads one line of at most MaxReply bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxReply {
			return nil, fmt.Errorf("got a line of more than %d bytes", MaxReply)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the daemon ended, or hung up, before it answered; what was under way goes on when it is back: %w", io.ErrUnexpectedEOF)
		default:
			return nil, err
		}
	}
}
