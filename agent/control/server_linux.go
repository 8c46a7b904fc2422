package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

// Server answers operators on behalf of an agent.
type Server struct {
	Operator agent.Operator
	Guard    Guard
	Log      *slog.Logger
}

// Serve accepts connections until ctx ends. It then closes l, interrupts what is under
// way, and returns nil when all of it has ended.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	places := make(chan struct{}, MaxConnections)
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				s.Log.Warn("accept on control socket", "err", err)
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("control socket: %w", err)
		}
		select {
		case places <- struct{}{}:
		default:
			send(c, reply{Error: &failure{agent.CodeBusy, "too many connections to the daemon"}})
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			s.serve(work, c)
		})
	}
}

// serve answers the one request of a connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	peer, err := peerOf(c)
	if err != nil {
		s.Log.Warn("control connection", "err", err)
		return
	}
	m, err := receive(c)
	if errors.Is(err, errSilent) {
		return
	}
	if err != nil {
		s.Log.Warn("control request refused", "uid", peer.UID, "err", err)
		send(c, reply{Error: &failure{agent.CodeUsage, err.Error()}})
		return
	}
	r := m.Request
	done := func() {
		if r.Bundle != nil {
			r.Bundle.Close()
		}
	}
	defer done()
	if changes(r.Verb) {
		if !s.Guard.MayChange(peer) {
			s.Log.Warn("control request refused", "uid", peer.UID, "verb", r.Verb)
			send(c, reply{Error: &failure{"", fmt.Sprintf("%s: user %d is neither root nor in group %s", r.Verb, peer.UID, GroupName)}})
			return
		}
		level := slog.LevelInfo
		if r.App != nil && r.App.Do == agent.AppLogs {
			level = slog.LevelDebug // who follows an application's output asks twice a second
		}
		s.Log.Log(ctx, level, "control request", "uid", peer.UID, "verb", r.Verb)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// A client says no more. Whatever arrives, or the end of the connection, means
		// that it has gone: what it asked for is interrupted, and can be resumed.
		var b [1]byte
		_, _ = c.Read(b[:])
		cancel()
	}()
	events := newEvents(c, cancel)
	result, err := s.Operator.Do(ctx, r, events.emit)
	events.end()
	done()
	if err != nil {
		send(c, reply{Error: wire(err)})
		return
	}
	send(c, reply{Result: &result})
}

// events passes progress on without ever holding up the agent: what a slow client does
// not take is dropped.
type events struct {
	mu    sync.Mutex
	ended bool
	queue chan agent.Event
	done  chan struct{}
}

func newEvents(c *net.UnixConn, gone func()) *events {
	e := &events{queue: make(chan agent.Event, 32), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for ev := range e.queue {
			if send(c, reply{Event: &ev}) != nil {
				gone()
				for range e.queue { // until end
				}
			}
		}
	}()
	return e
}

func (e *events) emit(ev agent.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	select {
	case e.queue <- ev:
	default:
	}
}

// end returns when all events that were taken are written.
func (e *events) end() {
	e.mu.Lock()
	e.ended = true
	close(e.queue)
	e.mu.Unlock()
	<-e.done
}

// send writes one line. A client that does not take it within RequestTime has gone.
func send(c *net.UnixConn, r reply) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(RequestTime)); err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

// errSilent is a connection that was closed without a word: somebody looked whether
// there is a daemon.
var errSilent = errors.New("closed without a request")

// receive reads the request and the file descriptor that may come with it.
func receive(c *net.UnixConn) (m *message, err error) {
	if err := c.SetReadDeadline(time.Now().Add(RequestTime)); err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files { // all but the bundle that is handed on
			if m == nil || m.Request.Bundle != f {
				f.Close()
			}
		}
	}()
	line := make([]byte, 0, 4096)
	chunk := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := c.ReadMsgUnix(chunk, oob)
		if oobn > 0 {
			files = append(files, filesOf(oob[:oobn])...)
		}
		if len(line)+n == 0 && (err == nil || errors.Is(err, io.EOF)) {
			return nil, errSilent
		}
		if err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		if n == 0 {
			return nil, fmt.Errorf("request: connection closed after %d bytes", len(line))
		}
		if len(files) > 1 {
			return nil, fmt.Errorf("request: got %d file descriptors, want at most 1", len(files))
		}
		if len(line)+n > MaxRequest {
			return nil, fmt.Errorf("request: got more than %d bytes", MaxRequest)
		}
		line = append(line, chunk[:n]...)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			if i != len(line)-1 {
				return nil, fmt.Errorf("request: bytes after the end of the line")
			}
			break
		}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	got, err := decodeMessage(line)
	if err != nil {
		return nil, err
	}
	if got.File != (len(files) == 1) {
		return nil, fmt.Errorf("request: got %d file descriptors, file is %v", len(files), got.File)
	}
	if !got.File {
		return got, nil
	}
	if err := checkFile(files[0]); err != nil {
		return nil, err
	}
	if got.Request.Verb == agent.VerbInit {
		got.Request.Factory, err = readManifest(files[0])
		return got, err
	}
	got.Request.Bundle = files[0]
	return got, nil
}

// filesOf takes the file descriptors out of control messages, whatever else is there.
func filesOf(oob []byte) []*os.File {
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "file of a request"))
		}
	}
	return files
}

// checkFile refuses what could block or change under a reader's hands in other ways
// than a file can: pipes, devices, directories, and files that were not opened to read.
func checkFile(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("file: got %s, want a regular file", st.Mode().Type())
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY || flags&unix.O_PATH != 0 {
		return fmt.Errorf("file: not opened for reading")
	}
	return nil
}

func readManifest(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, release.MaxManifestSize+1))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(b) > release.MaxManifestSize {
		return nil, fmt.Errorf("manifest: got more than %d bytes", release.MaxManifestSize)
	}
	return b, nil
}
