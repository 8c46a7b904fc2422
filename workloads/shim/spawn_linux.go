package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/twinkeel/twinkeel/workloads"
)

// Spawn starts a shim for a directory, which holds its order, by command with the
// directory's name appended, and returns when its application runs. It hands over the
// application's listening sockets. The shim lives on without the caller; ended is closed
// when it does end before the caller.
func Spawn(ctx context.Context, command []string, dir string, sockets []*os.File) (ended <-chan struct{}, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", err)
	}
	defer func() { _ = r.Close() }()
	c := exec.Command(command[0], append(command[1:], dir)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1"}
	c.Dir = "/"
	c.Stderr = os.Stderr
	c.ExtraFiles = append([]*os.File{w}, sockets...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Unshareflags: syscall.CLONE_NEWNS}
	err = c.Start()
	_ = w.Close()
	if err != nil {
		return nil, fmt.Errorf("start shim: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(gone)
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
	defer stop()
	var said report
	if err := json.NewDecoder(io.LimitReader(r, maxMessage)).Decode(&said); err != nil {
		_ = c.Process.Kill()
		<-gone
		return nil, fmt.Errorf("start shim: it ended without a word: %w", errors.Join(ctx.Err(), err))
	}
	if said.Error != "" {
		<-gone
		err := errors.New(said.Error)
		if said.Missing {
			err = fmt.Errorf("%w: %w", workloads.ErrMissing, err)
		}
		return nil, err
	}
	return gone, nil
}
