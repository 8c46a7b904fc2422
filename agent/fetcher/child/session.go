package child

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
	"github.com/twinkeel/twinkeel/deltas/decode"
)

// aliveEvery is how often the writer is told that a silent request is still at work.
const aliveEvery = 5 * time.Second

// fullFrame is the size of all Data frames but the last in bytes; the writer counts
// smaller ones against us.
const fullFrame = 64 << 10

// source is where files come from: a server or a bundle.
type source interface {
	get(ctx context.Context, r wire.Request, w io.Writer) error
}

// nowhere is the source of a host without a server.
type nowhere struct{}

func (nowhere) get(context.Context, wire.Request, io.Writer) error {
	return fail(wire.CodeInvalid, "no server is configured")
}

// session is one connection. A goroutine of its own waits for the next header, so that
// a closed connection ends the request at work; whoever takes the header from it reads
// the payload and then lets it go on.
type session struct {
	conn    *net.UnixConn
	headers chan received
	goOn    chan struct{}
	source  source
	close   func() error

	// A host decodes segment after segment: the memory of one serves the next.
	decoder decode.Decoder
	buffer  []byte

	mu sync.Mutex // of writes: data and signs of life come from two goroutines
}

type received struct {
	wire.Header
	file *os.File
}

// serveConn answers conn's requests until it is closed. What breaks the protocol
// closes it: the writer is the one end that can be trusted to know it.
func serveConn(ctx context.Context, s *server, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := &session{conn: conn, headers: make(chan received), goOn: make(chan struct{}), close: func() error { return nil }}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		c.watch(ctx)
	})
	defer reader.Wait()
	defer cancel()
	if err := c.open(ctx, s); err != nil {
		_ = c.end(err)
		return
	}
	defer func() { _ = c.close() }()
	if c.end(nil) != nil {
		return
	}
	for c.serve(ctx) == nil {
	}
}

func (c *session) watch(ctx context.Context) {
	for {
		h, file, err := wire.ReceiveHeader(c.conn)
		if err != nil {
			return
		}
		select {
		case c.headers <- received{h, file}:
		case <-ctx.Done():
			if file != nil {
				_ = file.Close()
			}
			return
		}
		select {
		case <-c.goOn:
		case <-ctx.Done():
			return
		}
	}
}

// next takes a frame of the given kind into buf, which is made when nil. The file is
// the caller's to close.
func (c *session) next(ctx context.Context, kind wire.Kind, buf []byte) ([]byte, *os.File, error) {
	var r received
	select {
	case r = <-c.headers:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	err := func() error {
		if r.Kind != kind {
			return fmt.Errorf("got frame %c, want %c", r.Kind, kind)
		}
		if buf == nil {
			buf = make([]byte, r.Length)
		}
		if r.Length > len(buf) {
			return fmt.Errorf("frame %c: got %d bytes, want at most %d", kind, r.Length, len(buf))
		}
		_, err := io.ReadFull(c.conn, buf[:r.Length])
		return err
	}()
	if err != nil {
		if r.file != nil {
			_ = r.file.Close()
		}
		return nil, nil, err
	}
	select {
	case c.goOn <- struct{}{}:
	case <-ctx.Done():
	}
	return buf[:r.Length], r.file, nil
}

// open takes the options and makes the source.
func (c *session) open(ctx context.Context, s *server) error {
	b, file, err := c.next(ctx, wire.KindOptions, nil)
	if err != nil {
		return fail(wire.CodeInvalid, "%v", err)
	}
	if file != nil {
		c.close = file.Close
	}
	var o wire.Options
	if err := wire.Decode(b, &o); err != nil {
		return fail(wire.CodeInvalid, "options: %v", err)
	}
	if err := o.Validate(); err != nil {
		return fail(wire.CodeInvalid, "%v", err)
	}
	if o.Bundle != (file != nil) {
		return fail(wire.CodeInvalid, "options: the bundle's descriptor is missing, or came without being named")
	}
	switch {
	case o.Bundle:
		if c.source, err = openBundle(file); err != nil {
			_ = c.close()
			return fail(wire.CodeCorrupt, "%v", err)
		}
	case o.Server == "":
		c.source = nowhere{}
	default:
		if c.source, err = s.site(string(b), o); err != nil {
			return fail(wire.CodeInvalid, "%v", err)
		}
	}
	return nil
}

// serve answers one request. An error means that the connection is of no more use.
func (c *session) serve(ctx context.Context) error {
	b, file, err := c.next(ctx, wire.KindRequest, nil)
	if err != nil {
		return err
	}
	if file != nil {
		defer func() { _ = file.Close() }()
	}
	var r wire.Request
	if err := wire.Decode(b, &r); err != nil {
		return err
	}
	if err := r.Validate(); err != nil {
		return c.end(fail(wire.CodeInvalid, "%v", err))
	}
	if r.Base != (file != nil) {
		return fmt.Errorf("request %s: the descriptor of the base is missing, or came without being named", r.Op)
	}
	var payload []byte
	if r.Op == wire.OpDecode {
		if payload, err = c.payload(ctx, int(r.Segment.PayloadLength)); err != nil {
			return err
		}
	}
	alive := c.alive()
	err = c.do(ctx, r, payload, file)
	alive()
	return c.end(err)
}

func (c *session) do(ctx context.Context, r wire.Request, payload []byte, base *os.File) error {
	switch r.Op {
	case wire.OpGet:
		w := bufio.NewWriterSize(dataWriter{c}, fullFrame)
		if err := c.source.get(ctx, r, w); err != nil {
			return err
		}
		return w.Flush()
	case wire.OpDecode:
		return decodeSegment(&c.decoder, payload, *r.Segment, base, dataWriter{c}) // which buffers as much
	default:
		return probe(ctx, r)
	}
}

// payload collects the n bytes that follow a decode request.
func (c *session) payload(ctx context.Context, n int) ([]byte, error) {
	if n > cap(c.buffer) {
		c.buffer = make([]byte, n)
	}
	all := c.buffer[:n]
	for done := 0; done < n; {
		got, _, err := c.next(ctx, wire.KindPayload, all[done:])
		if err != nil {
			return nil, err
		}
		if len(got) == 0 {
			return nil, fmt.Errorf("payload: got an empty frame after %d bytes, want %d", done, n)
		}
		done += len(got)
	}
	return all, nil
}

// alive sends signs of life until the function it returns is called.
func (c *session) alive() (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		t := time.NewTicker(aliveEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				_ = c.send(wire.KindAlive, nil)
			}
		}
	})
	return func() { close(done); group.Wait() }
}

func (c *session) send(kind wire.Kind, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wire.Send(c.conn, kind, b, nil)
}

func (c *session) end(err error) error {
	b, err := json.Marshal(endFor(err))
	if err != nil {
		return err
	}
	return c.send(wire.KindEnd, b)
}

// dataWriter turns writes into Data frames.
type dataWriter struct{ c *session }

func (w dataWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, wire.MaxChunk)
		if err := w.c.send(wire.KindData, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
