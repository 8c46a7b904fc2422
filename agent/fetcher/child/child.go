package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/confine"
	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	// inherited is the descriptor that writer and systemd both pass.
	inherited = 3
	// maxConns bounds the requests at work at once, and with them the memory.
	maxConns = 8
	// memoryLimit is what the garbage collector aims at: a decode needs its payload,
	// its literals and the decoder's window, which is less than 20 MiB.
	memoryLimit = 32 << 20
)

// Main is the whole program: it serves the socket inherited as descriptor 3 until ctx
// ends or the other end is closed. The socket is either the writer's control
// connection or a socket that listens, as systemd passes it.
func Main(ctx context.Context) error {
	// Before anything is read: whoever breaks in by what is read finds the doors shut.
	for _, err := range confine.Fetcher() {
		fmt.Fprintf(os.Stderr, "fetcher: not confined as it should be: %v\n", err)
	}
	runtime.GOMAXPROCS(min(2, runtime.GOMAXPROCS(0)))
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(50)
	listening, err := unix.GetsockoptInt(inherited, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("descriptor %d: got no socket: %w; this process is started by the writer or by a socket unit", inherited, err)
	}
	file := os.NewFile(inherited, "control")
	if listening != 0 {
		ln, err := net.FileListener(file)
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("listening socket: %w", err)
		}
		return Serve(ctx, ln)
	}
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("control socket: got %T, want a Unix socket", conn)
	}
	return Run(ctx, uc)
}

// Run limits this process as it is told to, for good, and then serves the connections
// that arrive as descriptors on the control connection. It returns when that one is closed or ctx ends, and takes its connections down with it.
func Run(ctx context.Context, control *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = control.Close() })
	defer stop()
	if err := takeLimits(control); err != nil {
		return endOf(ctx, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := newServer()
	defer s.wait()
	defer cancel()
	for {
		h, file, err := wire.ReceiveHeader(control)
		if err != nil {
			return endOf(ctx, err)
		}
		if h.Kind != wire.KindConn || file == nil {
			if file != nil {
				_ = file.Close()
			}
			return fmt.Errorf("control socket: got frame %c, want one with a connection", h.Kind)
		}
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		s.start(ctx, conn)
	}
}

// Serve serves the connections of a listening Unix socket until ctx ends.
func Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	s := newServer()
	defer s.wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return endOf(ctx, err)
		}
		s.start(ctx, conn)
	}
}

// endOf turns the ways in which a socket ends on purpose into nil.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || isEOF(err) {
		return nil
	}
	return err
}

// server is what the connections share: slots to work in, and HTTP clients, so that
// connections to the repository stay alive from one request to the next.
type server struct {
	slots chan struct{}
	group sync.WaitGroup

	mu    sync.Mutex
	sites map[string]*site
}

func newServer() *server {
	return &server{slots: make(chan struct{}, maxConns), sites: map[string]*site{}}
}

func (s *server) wait() { s.group.Wait() }

// start serves conn, or closes it when there are too many.
func (s *server) start(ctx context.Context, conn net.Conn) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	s.group.Go(func() {
		defer func() { <-s.slots }()
		serveConn(ctx, s, uc)
	})
}

// site returns the HTTP client for options, given with their encoding.
func (s *server) site(key string, o wire.Options) (*site, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.sites[key]; got != nil {
		return got, nil
	}
	made, err := newSite(o)
	if err != nil {
		return nil, err
	}
	if len(s.sites) >= maxConns {
		clear(s.sites)
	}
	s.sites[key] = made
	return made, nil
}
