package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
	"github.com/twinkeel/twinkeel/deltas"
)

// planTime is how long the process may take over one plan, not counting the time in
// which nobody reads it.
const planTime = 10 * time.Minute

// filer is a base that has a descriptor to hand over.
type filer interface{ File() *os.File }

// Decode implements agent.Net. base is nil or has a method File() *os.File; the process gets
// a descriptor of its own of that file, open for reading only. The plan is a stream:
// its Read ends with io.EOF only after the process said that the plan is whole. The
// caller closes it; ctx must live until then.
func (c *Client) Decode(ctx context.Context, payload []byte, s deltas.Segment, base io.ReaderAt) (io.ReadCloser, error) {
	object := fmt.Sprintf("decode segment at %d", s.Offset)
	r := wire.Request{Op: wire.OpDecode, Segment: &s, Base: base != nil}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if int64(len(payload)) != s.PayloadLength {
		return nil, fmt.Errorf("%s: got a payload of %d bytes, want %d", object, len(payload), s.PayloadLength)
	}
	var file *os.File
	if base != nil {
		f, ok := base.(filer)
		if !ok {
			return nil, fmt.Errorf("%s: got a base of type %T, want one with a file", object, base)
		}
		var err error
		if file, err = reopen(f.File()); err != nil {
			return nil, fmt.Errorf("%s: base: %w", object, err)
		}
		defer func() { _ = file.Close() }()
	}
	session, err := c.ask(ctx, object, r, payload, file)
	if err != nil {
		return nil, err
	}
	session.patience = planTime
	return &plan{ctx: ctx, client: c, session: session, left: maxPlan(s)}, nil
}

// endTime is how long Close waits for a process to say that the plan is whole.
const endTime = time.Second

// maxPlan bounds a plan: its literals, and for each instruction less than 64 bytes.
func maxPlan(s deltas.Segment) int64 {
	return min(s.Length, deltas.MaxLiteral) + 64*(deltas.MaxOps+1)
}

// reopen returns a description of its own of f, which cannot write and shares neither
// position nor flags with the writer's: what is handed to the process cannot be used
// to change how the writer reads.
func reopen(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var again *os.File
	cerr := raw.Control(func(fd uintptr) {
		again, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	})
	if cerr != nil {
		return nil, cerr
	}
	return again, err
}

// errClosed is what reading a plan after Close gives.
var errClosed = errors.New("plan is closed")

// plan is the answer to a decode request while it is being read.
type plan struct {
	ctx     context.Context // of the request: its end is the end of the stream
	client  *Client
	session *session
	left    int64 // bytes that may still come
	chunk   int   // bytes left of the current frame
	err     error // once the stream ended
}

// Read implements io.Reader.
func (p *plan) Read(b []byte) (int, error) {
	if p.err != nil || len(b) == 0 {
		return 0, p.err
	}
	if p.chunk == 0 {
		n, err := p.session.header()
		if err != nil {
			return 0, p.finish(err)
		}
		if p.left -= int64(n); p.left < 0 {
			return 0, p.finish(fmt.Errorf("%w: the plan is too long", errProtocol))
		}
		p.chunk = n
	}
	n, err := p.session.Read(b[:min(len(b), p.chunk)])
	p.chunk -= n
	if err != nil {
		return n, p.finish(p.session.fault(err))
	}
	return n, nil
}

// finish gives the connection back, once.
func (p *plan) finish(err error) error {
	if errors.Is(err, io.EOF) {
		p.err = io.EOF
		p.client.release(p.session, nil)
		return p.err
	}
	p.client.release(p.session, err)
	p.err = p.session.judge(p.ctx, err)
	return p.err
}

// Close implements io.Closer. A reader that knows the plan's end may close without
// having seen it; closing any earlier gives up the connection.
func (p *plan) Close() error {
	if p.err != nil {
		return nil
	}
	err := errClosed
	if p.chunk == 0 {
		p.session.patience = min(p.session.patience, endTime)
		if _, herr := p.session.header(); herr != nil {
			err = herr
		}
	}
	said := new(Error)
	failed := errors.As(err, &said)
	err = p.finish(err)
	p.err = errClosed
	if failed {
		return err
	}
	return nil
}
