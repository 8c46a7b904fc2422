package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// maxCalls is how many operations of a guest may be under way.
const maxCalls = 32

// Line is the host's end of the port.
type Line struct {
	conn net.Conn
	out  *Writer

	// Up takes what the guest says of the application's start; empty: it runs.
	Up chan string
	// Down takes how the application ended, and is closed when the guest says no more.
	Down chan Outcome

	mu    sync.Mutex
	next  uint32
	calls map[uint32]*call
	err   error
}

// call is an operation under way.
type call struct {
	frames chan Frame // at most a Window of output, and what ends it
	queued int        // bytes of output that are not taken yet
	input  *Credit
}

// NewLine talks to the guest at the other end of conn.
func NewLine(conn net.Conn) *Line {
	l := &Line{conn: conn, out: NewWriter(conn), Up: make(chan string, 1), Down: make(chan Outcome, 1), calls: map[uint32]*call{}}
	go l.read()
	return l
}

// Close cuts the guest off.
func (l *Line) Close() error { return l.conn.Close() }

// read takes the guest's frames until one is not as agreed.
func (l *Line) read() {
	r := bufio.NewReader(l.conn)
	var err error
	for err == nil {
		var f Frame
		if f, err = Read(r); err == nil {
			err = l.take(f)
		}
	}
	_ = l.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = fmt.Errorf("the guest says no more: %w", err)
	for id, c := range l.calls {
		close(c.frames)
		c.input.End()
		delete(l.calls, id)
	}
	close(l.Down)
	close(l.Up)
}

// take is one frame of the guest's. An operation that it names may just have ended.
func (l *Line) take(f Frame) error {
	switch f.Kind {
	case Started:
		select {
		case l.Up <- string(f.Data):
			return nil
		default:
			return errors.New("frame: the application started twice")
		}
	case Ended:
		var o Outcome
		if err := json.Unmarshal(f.Data, &o); err != nil {
			return fmt.Errorf("frame: outcome: %w", err)
		}
		select {
		case l.Down <- o:
			return nil
		default:
			return errors.New("frame: the application ended twice")
		}
	case Output, Errors, Exit, Answer, More:
	default:
		return fmt.Errorf("frame: got kind %d from a guest", f.Kind)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.calls[f.ID]
	if !ok {
		return nil
	}
	if f.Kind == More {
		n, err := ParseNumber(f.Data)
		c.input.Add(n)
		return err
	}
	if f.Kind == Output || f.Kind == Errors {
		if c.queued += len(f.Data) + weight; c.queued > Window {
			return fmt.Errorf("frame: got %d bytes of output under way, want at most %d", c.queued, Window)
		}
	}
	select {
	case c.frames <- f:
		return nil
	default:
		return errors.New("frame: got more frames than bytes that were allowed")
	}
}

// begin opens an operation.
func (l *Line) begin() (uint32, *call, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, nil, l.err
	}
	if len(l.calls) >= maxCalls {
		return 0, nil, fmt.Errorf("guest: got %d operations under way, want fewer", maxCalls)
	}
	l.next++
	c := &call{frames: make(chan Frame, Window/weight+2), input: NewCredit()}
	l.calls[l.next] = c
	return l.next, c, nil
}

func (l *Line) end(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.calls[id]; ok {
		c.input.End()
		delete(l.calls, id)
	}
}

// Signal sends the application a signal.
func (l *Line) Signal(number byte) error {
	return l.out.Write(Frame{Kind: Signal, Data: []byte{number}})
}

// Probe reports why nobody listens on a port of the guest's; nil: somebody does.
func (l *Line) Probe(ctx context.Context, port uint16) error {
	id, c, err := l.begin()
	if err != nil {
		return err
	}
	defer l.end(id)
	if err := l.out.Write(Frame{Probe, id, binary.LittleEndian.AppendUint16(nil, port)}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case f, ok := <-c.frames:
		switch {
		case !ok || f.Kind != Answer:
			return errors.New("the guest gave no answer")
		case len(f.Data) > 0:
			return fmt.Errorf("in the guest: %.200q", f.Data)
		}
		return nil
	}
}

// Exec runs a command in the guest and returns its exit code. When ctx ends the command
// is killed.
func (l *Line) Exec(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	words, err := json.Marshal(argv)
	if err != nil {
		return 0, err
	}
	id, c, err := l.begin()
	if err != nil {
		return 0, err
	}
	defer l.end(id)
	if err := l.out.Write(Frame{Exec, id, words}); err != nil {
		return 0, err
	}
	go l.feed(id, c, in)
	for {
		select {
		case <-ctx.Done():
			return 0, errors.Join(ctx.Err(), l.out.Write(Frame{Cancel, id, nil}))
		case f, ok := <-c.frames:
			if !ok {
				return 0, errors.New("the guest says no more")
			}
			if f.Kind == Exit {
				return exitCode(f.Data)
			}
			if err := l.pass(id, c, f, out, errs); err != nil {
				return 0, errors.Join(err, l.out.Write(Frame{Cancel, id, nil}))
			}
		}
	}
}

func exitCode(b []byte) (int, error) {
	code, err := ParseNumber(b)
	if err == nil && len(b) > 4 {
		err = fmt.Errorf("in the guest: %.200q", b[4:])
	}
	return code, err
}

// pass writes output, and lets the guest send as much again.
func (l *Line) pass(id uint32, c *call, f Frame, out, errs io.Writer) error {
	to := out
	if f.Kind == Errors {
		to = errs
	}
	if to != nil {
		if _, err := to.Write(f.Data); err != nil {
			return err
		}
	}
	l.mu.Lock()
	c.queued -= len(f.Data) + weight
	l.mu.Unlock()
	return l.out.Write(Frame{More, id, Number(len(f.Data))})
}

// feed sends a command what it reads.
func (l *Line) feed(id uint32, c *call, in io.Reader) {
	b := make([]byte, MaxFrame)
	for in != nil {
		n, err := in.Read(b)
		if c.input.Send(l.out, Input, id, b[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = l.out.Write(Frame{Input, id, nil})
}
