package fetcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

// maxSessions is how many requests of one Client are at work at once.
const maxSessions = 4

// defaultProbe is the time-out of a probe that names none.
const defaultProbe = 10 * time.Second

// endpoint is where connections to the process come from.
type endpoint interface {
	// begin and finish enclose every use of a connection.
	begin()
	finish()
	// connect opens one more connection, and starts the process if need be. punish ends
	// the process behind it, for having stalled or broken the protocol.
	connect(ctx context.Context) (conn *net.UnixConn, punish func(reason error), err error)
	close() error
}

// Client is agent.Net over the process. It may be used from several goroutines.
type Client struct {
	options  Options
	endpoint endpoint
	opening  []byte   // the Options frame
	bundle   *os.File // or nil; not owned
	shared   bool     // the endpoint belongs to another Client
	slots    chan struct{}

	mu     sync.Mutex
	idle   []*session
	closed bool
}

// Dial returns a client of a process that listens on a Unix socket, and checks that
// it answers.
func Dial(ctx context.Context, path string, o Options) (*Client, error) {
	o = o.withDefaults()
	return open(ctx, o, &listening{path: path})
}

// Spawn starts the process and returns its client. The process runs the program's own
// binary with the argument "fetcher", which has to call child.Main. ctx bounds the start only.
//
// If the writer is root, the process gets another user and no capability; for that
// the writer needs CAP_SETUID, CAP_SETGID and CAP_KILL.
// When the process dies, the request at work fails with agent.ErrUnavailable and the next one
// starts it again. It is stopped while there is nothing to do.
func Spawn(ctx context.Context, o Options) (*Client, error) {
	o = o.withDefaults()
	return open(ctx, o, newSupervisor(o))
}

func open(ctx context.Context, o Options, e endpoint) (*Client, error) {
	c, err := newClient(o, e, nil)
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	s, err := c.acquire(ctx)
	if err != nil {
		return nil, errors.Join(lost(ctx, "start", err), c.Close())
	}
	c.release(s, nil)
	return c, nil
}

func newClient(o Options, e endpoint, bundle *os.File) (*Client, error) {
	opening, err := o.encode(bundle != nil)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, endpoint: e, opening: opening, bundle: bundle, slots: make(chan struct{}, maxSessions)}, nil
}

// WithBundle returns a client of the same process that reads files out of an offline
// bundle, an uncompressed tar archive of regular files with the repository's paths. f
// must stay open as long as that client is used; closing the client does not close f.
func (c *Client) WithBundle(f *os.File) (*Client, error) {
	b, err := newClient(c.options, c.endpoint, f)
	if err != nil {
		return nil, err
	}
	b.shared = true
	return b, nil
}

// Close ends the connections and, for the client that Spawn returned, the process.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, s := range idle {
		_ = s.conn.Close()
	}
	if c.shared {
		return nil
	}
	return c.endpoint.close()
}

// Get implements agent.Net: at most limit bytes from offset on, fewer only where the
// file ends. An offset at or behind the end of the file is an error.
func (c *Client) Get(ctx context.Context, path string, offset, limit int64) ([]byte, error) {
	r := wire.Request{Op: wire.OpGet, Path: path, Offset: offset, Limit: limit}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var data []byte
	s, err := c.ask(ctx, "get "+path, r, nil, nil)
	if err != nil {
		return nil, err
	}
	s.patience = c.options.total(limit)
	data, err = s.collect(limit)
	c.release(s, err)
	if err != nil {
		return nil, s.judge(ctx, err)
	}
	return data, nil
}

// Probe implements agent.Net for probes by http and tcp.
func (c *Client) Probe(ctx context.Context, p agent.Probe) error {
	if p.Timeout == 0 {
		p.Timeout = defaultProbe
	}
	r := wire.Request{Op: wire.OpProbe, HTTP: p.HTTP, TCP: p.TCP, Timeout: p.Timeout}
	if err := r.Validate(); err != nil {
		return err
	}
	// The probe's name is known to whoever judges it; its endpoint is the object here.
	s, err := c.ask(ctx, cmp.Or(p.HTTP, p.TCP), r, nil, nil)
	if err != nil {
		return err
	}
	s.patience = p.Timeout + c.options.Timeouts.Silence
	_, err = s.collect(0)
	c.release(s, err)
	return s.judge(ctx, err)
}

// ask sends a request on a connection of its own, which the caller has to release.
func (c *Client) ask(ctx context.Context, object string, r wire.Request, payload []byte, base *os.File) (*session, error) {
	s, err := c.acquire(ctx)
	if err != nil {
		return nil, lostOr(ctx, object, err)
	}
	s.object, s.small = object, 0
	s.cancelled = context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	b, err := json.Marshal(r)
	if err == nil {
		err = s.send(wire.KindRequest, b, base)
	}
	for len(payload) > 0 && err == nil {
		n := min(len(payload), wire.MaxChunk)
		err = s.send(wire.KindPayload, payload[:n], nil)
		payload = payload[n:]
	}
	if err != nil {
		c.release(s, err)
		return nil, lostOr(ctx, object, err)
	}
	return s, nil
}

// lostOr keeps what the process said itself, and otherwise calls the connection lost.
func lostOr(ctx context.Context, object string, err error) error {
	var said *Error
	if errors.As(err, &said) {
		said.Object = object
		return said
	}
	return lost(ctx, object, err)
}

// acquire returns a connection that was opened and answered for.
func (c *Client) acquire(ctx context.Context) (*session, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.endpoint.begin()
	s, err := c.session(ctx)
	if err != nil {
		c.endpoint.finish()
		<-c.slots
	}
	return s, err
}

func (c *Client) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, net.ErrClosed
		}
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			break
		}
		s := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if s.usable() {
			return s, nil
		}
		_ = s.conn.Close()
	}
	conn, punish, err := c.endpoint.connect(ctx)
	if err != nil {
		return nil, err
	}
	silence := c.options.Timeouts.Silence
	s := &session{conn: conn, punish: punish, silence: silence, patience: silence, object: "open"}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = c.introduce(s)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if faulty(err) && ctx.Err() == nil {
			punish(err)
		}
		return nil, err
	}
	return s, nil
}

// introduce sends the options, with the bundle, and waits for the answer.
func (c *Client) introduce(s *session) error {
	var file *os.File
	if c.bundle != nil {
		var err error
		if file, err = reopen(c.bundle); err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		s.patience += indexTime
	}
	if err := s.send(wire.KindOptions, c.opening, file); err != nil {
		return err
	}
	_, err := s.collect(0)
	return err
}

// release takes a connection back after the answer was read to its end, or drops it.
func (c *Client) release(s *session, err error) {
	defer func() { <-c.slots }()
	defer c.endpoint.finish()
	cancelled := s.cancelled != nil && !s.cancelled()
	s.cancelled = nil
	c.mu.Lock()
	keep := !faulty(err) && !errors.Is(err, errClosed) && !cancelled && !c.closed
	if keep {
		c.idle = append(c.idle, s)
	}
	c.mu.Unlock()
	if !keep {
		_ = s.conn.Close()
	}
	if faulty(err) && !cancelled {
		s.punish(err)
	}
}

// listening is an endpoint that somebody else keeps alive.
type listening struct{ path string }

func (l *listening) begin()       {}
func (l *listening) finish()      {}
func (l *listening) close() error { return nil }

func (l *listening) connect(ctx context.Context) (*net.UnixConn, func(error), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", l.path)
	if err != nil {
		return nil, nil, err
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("socket %s: got %T, want a Unix socket", l.path, conn), conn.Close())
	}
	return uc, func(error) {}, nil
}
