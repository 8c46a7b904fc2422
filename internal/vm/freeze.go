package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// control is the way to tell QEMU something (QMP): of a machine that can be frozen, or goes on from where
// one was.
type control struct {
	conn net.Conn
	in   *json.Decoder
}

// frozen returns the arguments for a machine that is told things over the descriptor 3, and waits to be
// told to go on if it is one that was frozen.
func (c Config) frozen() []string {
	if !c.Freezes && c.Frozen == "" {
		return nil
	}
	args := []string{"-chardev", "socket,id=q0,fd=3", "-mon", "chardev=q0,mode=control"}
	if c.Frozen != "" {
		args = append(args, "-incoming", "fd:4")
	}
	return args
}

// newControl makes a connection, of which QEMU gets one end.
func newControl() (c *control, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return &control{conn: conn, in: json.NewDecoder(bufio.NewReader(conn))}, theirs, nil
}

// do has QEMU do something, and returns what it answers.
func (c *control) do(ctx context.Context, what string, arguments map[string]any) (json.RawMessage, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) }) // it may have been closed
	defer stop()
	if err := json.NewEncoder(c.conn).Encode(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
	}{what, arguments}); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := c.in.Decode(&answer); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("%s: %s", what, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		} // else it tells of something that happened
	}
}

// status waits until an answer has another status than some.
func (c *control) status(ctx context.Context, what string, passing ...string) (string, error) {
	for {
		b, err := c.do(ctx, what, nil)
		if err != nil {
			return "", err
		}
		var now struct{ Status string }
		if err := json.Unmarshal(b, &now); err != nil {
			return "", err
		}
		passes := now.Status == ""
		for _, p := range passing {
			passes = passes || now.Status == p
		}
		if !passes {
			return now.Status, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Freeze halts a machine with Config.Freezes, with everything it asked of its disk done, and writes what is in its
// memory and its devices, but not the disk, to a file. Thaw lets it go on.
func (m *Machine) Freeze(ctx context.Context, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := m.control.do(ctx, "stop", nil); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	// A shell takes the command apart, and a path may have anything in it.
	if _, err := m.control.do(ctx, "migrate", map[string]any{"uri": fmt.Sprintf("exec:cat > /proc/%d/fd/%d", os.Getpid(), f.Fd())}); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	how, err := m.control.status(ctx, "query-migrate", "setup", "active", "device")
	if err == nil && how != "completed" {
		err = fmt.Errorf("it %s", how)
	}
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	return f.Close()
}

// Thaw lets a machine go on that is halted.
func (m *Machine) Thaw(ctx context.Context) error {
	if _, err := m.control.do(ctx, "cont", nil); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// begin makes QEMU listen, and lets a machine with Config.Frozen go on once all of it is there.
func (m *Machine) begin(ctx context.Context, c Config) error {
	if m.control == nil {
		return nil
	}
	if _, err := m.control.do(ctx, "qmp_capabilities", nil); err != nil || c.Frozen == "" {
		return err
	}
	if _, err := m.control.status(ctx, "query-status", "inmigrate"); err != nil {
		return err
	}
	return m.Thaw(ctx)
}

// KernelReads waits until a machine with Config.Freezes and a trace has begun to start its kernel: until that, and
// not the loader, reads the disk. Linux begins with the page that the partition table begins with, and no
// loader here asks for just that. It fails with ErrEnded if the machine ends before.
func (m *Machine) KernelReads(ctx context.Context, trace string) error {
	for {
		if _, err := m.control.do(ctx, "query-status", nil); err != nil {
			return errors.Join(ErrEnded, ctx.Err(), err)
		}
		text, err := os.ReadFile(trace)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if bytes.Contains(text, []byte(" sector 0 nsectors 8\n")) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// close lets go of what a machine that can be frozen is told over.
func (c *control) close() error {
	if c == nil {
		return nil
	}
	return c.conn.Close()
}
