package fetcher

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	// steady is how long a process has to live to count as a good start.
	steady = 10 * time.Second
)

// supervisor is the endpoint that starts the process, starts it again when it died,
// and stops it while there is nothing to do.
type supervisor struct {
	options Options
	lock    chan struct{} // guards running, failures; taken with a context, held while starting

	running  *process
	failures int // bad ends in a row
	ended    time.Time
	closed   bool

	mu     sync.Mutex
	active int
	timer  *time.Timer // runs while active is 0
}

func newSupervisor(o Options) *supervisor {
	return &supervisor{options: o, lock: make(chan struct{}, 1)}
}

func (s *supervisor) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *supervisor) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.timer = time.AfterFunc(s.options.Idle, s.rest)
	}
}

// rest stops a process that nobody uses.
func (s *supervisor) rest() {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	s.mu.Lock()
	busy := s.active > 0
	s.mu.Unlock()
	if !busy && s.running != nil {
		s.dismiss()
	}
}

// connect implements endpoint.
func (s *supervisor) connect(ctx context.Context) (*net.UnixConn, func(error), error) {
	select {
	case s.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	defer func() { <-s.lock }()
	if s.closed {
		return nil, nil, net.ErrClosed
	}
	for retry := false; ; retry = true {
		p, err := s.process(ctx)
		if err != nil {
			return nil, nil, err
		}
		conn, err := p.connect(time.Now().Add(s.options.Timeouts.Silence))
		if err == nil {
			return conn, func(reason error) { s.punish(p, reason) }, nil
		}
		p.kill() // or it died a moment ago, which nobody has noticed yet
		s.reap(ctx)
		if retry {
			return nil, nil, err
		}
	}
}

// process returns the running process, and starts one if there is none.
func (s *supervisor) process(ctx context.Context) (*process, error) {
	s.reap(ctx)
	if s.running != nil {
		return s.running, nil
	}
	if err := s.pause(ctx); err != nil {
		return nil, err
	}
	p, err := startProcess(s.options)
	if err != nil {
		s.failures, s.ended = s.failures+1, time.Now()
		return nil, err
	}
	s.running = p
	return p, nil
}

// reap takes note of a process that ended by itself.
func (s *supervisor) reap(ctx context.Context) {
	if s.running == nil || s.running.alive() {
		return
	}
	s.running.log(ctx, s.options.Log)
	s.bury()
}

// bury forgets the process, which is gone, and remembers how often that happened.
func (s *supervisor) bury() {
	_ = s.running.control.Close()
	if time.Since(s.running.started) > steady {
		s.failures = 0
	}
	s.failures++
	s.ended = time.Now()
	s.running = nil
}

// pause waits before a start that follows bad ends.
func (s *supervisor) pause(ctx context.Context) error {
	if s.failures == 0 {
		return nil
	}
	wait := min(firstPause<<min(s.failures-1, 10), lastPause) - time.Since(s.ended)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// punish kills p, unless another request did so already.
func (s *supervisor) punish(p *process, reason error) {
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	if s.running != p {
		return
	}
	s.options.Log.Warn("fetcher killed", "reason", reason)
	s.running.kill()
	s.bury()
}

func (s *supervisor) close() error {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.lock <- struct{}{}
	defer func() { <-s.lock }()
	s.closed = true
	if s.running != nil {
		s.dismiss()
	}
	return nil
}

// dismiss stops the process and passes on what it had to say, such as that its kernel
// lacks a means to confine it.
func (s *supervisor) dismiss() {
	s.running.stop()
	if text := s.running.output.String(); text != `""` {
		s.options.Log.Info("fetcher stopped", "output", text)
	}
	s.running = nil
}
