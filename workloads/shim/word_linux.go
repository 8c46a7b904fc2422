package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// given reports whether the word to start was given before it was waited for.
func given(word *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(word.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&unix.POLLIN != 0
}

// startAt makes the application ready, says so, and starts it at the word. Without one,
// because whoever would give it has gone, or because it is stopped before, it never runs.
func (s *supervisor) startAt(ctx context.Context, word, say *os.File) (process, error) {
	c, ok := s.cage.(container)
	if !ok {
		return nil, fmt.Errorf("isolation: level %s cannot wait for its start", s.order.Unit.Manifest.Isolation.Level)
	}
	p, err := c.create(ctx)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(say).Encode(&report{Ready: true}); err != nil {
		return nil, fmt.Errorf("say that it could start: %w", err)
	}
	heard := make(chan bool, 1)
	go func() {
		n, _ := word.Read(make([]byte, 1))
		heard <- n == 1
	}()
	select {
	case ok := <-heard:
		if !ok {
			return nil, errors.New("nobody is left who would have it started")
		}
	case r := <-s.stops:
		r.answer <- s.clean()
		return nil, errors.New("stopped before it was started")
	}
	return p, c.order.Runtime.Begin(ctx, c.bundle())
}
