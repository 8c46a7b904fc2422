package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// relay is one machine's way to the update server, which a test can close.
type relay struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	shut bool
	left int64 // bytes until it shuts by itself; 0: it does not
	open map[net.Conn]bool
}

func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{l: l, to: to, open: map[net.Conn]bool{}}
	go r.serve()
	return r, nil
}

func (r *relay) port() int { return r.l.Addr().(*net.TCPAddr).Port }

// cutAfter lets so many bytes of answers through, and then cuts all connections; 0 opens
// the way again.
func (r *relay) cutAfter(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut, r.left = false, n
}

// wasCut reports whether all that was to go through has.
func (r *relay) wasCut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shut
}

func (r *relay) close() {
	_ = r.l.Close() // nobody waits for it
	r.cut()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	for c := range r.open {
		_ = c.Close() // which is what it is for
	}
}

func (r *relay) serve() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		go r.connect(c)
	}
}

func (r *relay) connect(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	shut := r.shut
	r.open[c] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.open, c)
		r.mu.Unlock()
	}()
	if shut {
		return
	}
	s, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer s.Close()
	go func() {
		_, err := io.Copy(s, c)
		_ = errors.Join(err, s.(*net.TCPConn).CloseWrite()) // the answer's direction says it
	}()
	_, _ = io.Copy(counted{c, r}, s) // a connection that is cut ends so
}

// counted counts what goes through a relay.
type counted struct {
	net.Conn
	r *relay
}

func (c counted) Write(p []byte) (int, error) {
	c.r.mu.Lock()
	over := false
	if c.r.left > 0 {
		c.r.left -= int64(len(p))
		over = c.r.left <= 0
	}
	c.r.mu.Unlock()
	if over {
		c.r.cut()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}
