package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
)

const (
	// indexTime is what the process may need to read through a bundle's headers.
	indexTime = 2 * time.Minute
	// An honest process fills its frames, but for the last. Without this limit a bad one
	// could make the writer work for each byte.
	smallFrame     = 4 << 10
	maxSmallFrames = 64
	// spareSigns is how many signs of life may come faster than one a second.
	spareSigns = 16
)

// errProtocol marks what no honest process sends.
var errProtocol = errors.New("protocol")

// session is one connection. Everything read from it is hostile.
type session struct {
	conn      *net.UnixConn
	punish    func(error)   // ends the process
	silence   time.Duration // longest wait for one frame
	patience  time.Duration // longest wait for the rest of the answer; used up by waiting
	small     int           // frames below smallFrame in this answer
	object    string        // what is asked for, for messages
	cancelled func() bool   // stops the watch over the request's context
}

// total is how long the process may take over a get of n bytes: all that it allows
// itself, and some more.
func (o Options) total(n int64) time.Duration {
	t := wire.Timeouts{Connect: o.Timeouts.Connect, Header: o.Timeouts.Header, Window: o.Timeouts.Window}
	return t.Total(n) + 2*o.Timeouts.Silence
}

func (s *session) send(kind wire.Kind, b []byte, file *os.File) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.silence)); err != nil {
		return err
	}
	return wire.Send(s.conn, kind, b, file)
}

// Read implements io.Reader under the session's limits on waiting.
func (s *session) Read(p []byte) (int, error) {
	if s.patience <= 0 {
		return 0, fmt.Errorf("the answer takes too long: %w", os.ErrDeadlineExceeded)
	}
	start := time.Now()
	if err := s.conn.SetReadDeadline(start.Add(min(s.silence, s.patience))); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(p)
	s.patience -= time.Since(start)
	return n, err
}

// header returns the next Data frame's length, or 0 and the end of the answer.
func (s *session) header() (int, error) {
	start := time.Now()
	for signs := 0; ; signs++ {
		if signs > spareSigns+int(time.Since(start)/time.Second) {
			return 0, fmt.Errorf("%w: got signs of life without end", errProtocol)
		}
		h, err := wire.ReadHeader(s)
		if err != nil {
			return 0, s.fault(err)
		}
		switch h.Kind {
		case wire.KindAlive:
			continue
		case wire.KindData:
			if h.Length < smallFrame {
				s.small++
			}
			if s.small > maxSmallFrames {
				return 0, fmt.Errorf("%w: got more than %d small frames", errProtocol, maxSmallFrames)
			}
			return h.Length, nil
		case wire.KindEnd:
			return 0, s.end(h.Length)
		default:
			return 0, fmt.Errorf("%w: got frame %c in an answer", errProtocol, h.Kind)
		}
	}
}

// end reads the last frame of an answer: io.EOF is success.
func (s *session) end(length int) error {
	b := make([]byte, length)
	if _, err := io.ReadFull(s, b); err != nil {
		return s.fault(err)
	}
	var end wire.End
	if err := wire.Decode(b, &end); err != nil {
		return fmt.Errorf("%w: end: %v", errProtocol, err)
	}
	if err := end.Validate(); err != nil {
		return fmt.Errorf("%w: %v", errProtocol, err)
	}
	if err := errorOf(s.object, end); err != nil {
		return err
	}
	return io.EOF
}

// fault keeps the end of the connection apart from the end of an answer, and calls a
// malformed header by its name.
func (s *session) fault(err error) error {
	var op net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the process closed the connection in the middle of an answer")
	case errors.As(err, &op), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return err
	}
	return fmt.Errorf("%w: %v", errProtocol, err)
}

// collect reads a whole answer of at most limit bytes.
func (s *session) collect(limit int64) ([]byte, error) {
	data := []byte{}
	for {
		n, err := s.header()
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		have := len(data)
		if int64(n) > limit-int64(have) {
			return nil, fmt.Errorf("%w: got more than %d bytes", errProtocol, limit)
		}
		if have+n > cap(data) {
			grown := make([]byte, have, min(limit, int64(max(2*cap(data), have+n))))
			copy(grown, data)
			data = grown
		}
		data = data[:have+n]
		if _, err := io.ReadFull(s, data[have:]); err != nil {
			return nil, s.fault(err)
		}
	}
}

// faulty reports whether err is a reason to end the process: it stalled, lied, or
// closed a connection, which it does only when it is about to die anyway.
func faulty(err error) bool {
	var said *Error
	return err != nil && !errors.As(err, &said) && !errors.Is(err, errClosed)
}

// judge is the error that the caller of a request sees.
func (s *session) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return lostOr(ctx, s.object, err)
}

// usable reports whether an idle connection is still open and silent.
func (s *session) usable() bool {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, rerr := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = errors.Is(rerr, unix.EAGAIN)
		return true
	})
	return err == nil && silent
}
