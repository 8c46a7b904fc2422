package fetcher_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher"
)

// raw is a server that answers the n-th request of its life with whatever it likes.
type raw func(n int, r *http.Request, conn net.Conn)

func (h raw) start(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	var count atomic.Int32
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				h(int(count.Add(1)), r, conn)
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// say answers every request with the same bytes and closes.
func say(text string) raw {
	return func(_ int, _ *http.Request, c net.Conn) { _, _ = c.Write([]byte(text)) }
}

func endless(head string) raw {
	return func(_ int, _ *http.Request, c net.Conn) {
		_, _ = c.Write([]byte(head))
		for {
			if _, err := c.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				return
			}
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nConnection: close\r\n"

func TestEveryHostileAnswerEndsInAClearError(t *testing.T) {
	const metadata, blob = "metadata/timestamp.json", "blobs/sha256/00"
	for _, test := range []struct {
		name   string
		server raw
		path   string
		offset int64
		limit  int64
		code   string
		text   string
	}{
		{"truncated", say(ok + "Content-Length: 100\r\n\r\nshort"), metadata, 0, 1000, "unavailable", "shorter than announced"},
		{"truncated range", say("HTTP/1.1 206 P\r\nConnection: close\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n\r\n"), blob, 0, 100, "unavailable", "shorter than announced"},
		{"stalled before the header", func(_ int, _ *http.Request, c net.Conn) { time.Sleep(2 * time.Second) }, metadata, 0, 100, "unavailable", "timeout"},
		{"stalled in the body", func(_ int, _ *http.Request, c net.Conn) {
			_, _ = c.Write([]byte(ok + "Content-Length: 100\r\n\r\nab"))
			time.Sleep(2 * time.Second)
		}, metadata, 0, 100, "unavailable", "slower than 1 KiB/s"},
		{"slow drip", func(_ int, _ *http.Request, c net.Conn) {
			_, _ = c.Write([]byte(ok + "Content-Length: 100000\r\n\r\n"))
			for range 400 {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, metadata, 0, 100_000, "unavailable", "slower than 1 KiB/s"},
		{"slow drip in the header", func(_ int, _ *http.Request, c net.Conn) {
			_, _ = c.Write([]byte(ok))
			for range 400 {
				if _, err := c.Write([]byte("X-A: b\r\n")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, metadata, 0, 100, "unavailable", "timeout"},
		{"endless header", endless("HTTP/1.1 200 OK\r\nX-A: "), metadata, 0, 100, "broken", "header"},
		{"header beyond 16 KiB", say(ok + "X-A: " + strings.Repeat("x", 17<<10) + "\r\n\r\n"), metadata, 0, 100, "broken", "header"},
		{"no HTTP at all", say("SSH-2.0-OpenSSH_9.2\r\n\r\n"), metadata, 0, 100, "broken", "malformed"},
		{"NUL in a header", say(ok + "ETag: \"a\x00b\"\r\n\r\n"), metadata, 0, 100, "broken", "malformed"},
		{"two lengths", say(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), metadata, 0, 100, "", ""},
		{"web page", say(ok + "Content-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\n\r\n<html>"), metadata, 0, 100, "broken", "web page"},
		{"compressed body", say(ok + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"), metadata, 0, 100, "broken", "content encoding"},
		{"206 without being asked", say("HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\nab"), metadata, 0, 100, "broken", "without a range"},
		{"wrong start", say("HTTP/1.1 206 P\r\nContent-Range: bytes 5-14/100\r\nContent-Length: 10\r\n\r\n0123456789"), blob, 4, 10, "broken", "content range"},
		{"range too long", say("HTTP/1.1 206 P\r\nContent-Range: bytes 4-99/100\r\nContent-Length: 96\r\n\r\n"), blob, 4, 10, "broken", "content range"},
		{"range too short", say("HTTP/1.1 206 P\r\nContent-Range: bytes 4-5/100\r\nContent-Length: 2\r\n\r\nab"), blob, 4, 10, "broken", "content range"},
		{"range behind its file", say("HTTP/1.1 206 P\r\nContent-Range: bytes 4-13/9\r\nContent-Length: 10\r\n\r\n0123456789"), blob, 4, 10, "broken", "content range"},
		{"no content range", say("HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n0123456789"), blob, 4, 10, "broken", "content range"},
		{"several ranges", say("HTTP/1.1 206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\nContent-Length: 3\r\n\r\n--x"), blob, 4, 10, "broken", "content range"},
		{"length against range", say("HTTP/1.1 206 P\r\nContent-Range: bytes 4-13/100\r\nContent-Length: 20\r\n\r\n01234567890123456789"), blob, 4, 10, "broken", "content length"},
		{"more than its range", say("HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 4-7/8\r\n\r\n8\r\n01234567\r\n0\r\n\r\n"), blob, 4, 10, "broken", "more than the 4 bytes"},
		{"416", say("HTTP/1.1 416 R\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n"), blob, 4, 10, "broken", "shorter than the range"},
		{"whole file, and shorter than the offset", say(ok + "Content-Length: 3\r\n\r\nabc"), blob, 4, 10, "broken", "more than the offset"},
		{"whole file from far away", say(ok + "Content-Length: 999999999999\r\n\r\nabc"), blob, 1 << 30, 10, "broken", "knows no ranges"},
		{"304 without a cache", say("HTTP/1.1 304 N\r\n\r\n"), metadata, 0, 100, "broken", "304"},
		{"204", say("HTTP/1.1 204 N\r\n\r\n"), metadata, 0, 100, "broken", "204"},
		{"500", say("HTTP/1.1 500 S\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "unavailable", "500"},
		{"401", say("HTTP/1.1 401 S\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "unavailable", "401"},
		{"403", say("HTTP/1.1 403 S\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "unavailable", "403"},
		{"403 for the next root", say("HTTP/1.1 403 S\r\nContent-Length: 0\r\n\r\n"), "metadata/2.root.json", 0, 100, "absent", "403"},
		{"404", say("HTTP/1.1 404 S\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "absent", "404"},
		{"410", say("HTTP/1.1 410 S\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "absent", "410"},
		{"redirect loop", say("HTTP/1.1 302 F\r\nLocation: /metadata/timestamp.json\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "broken", "more than 3"},
		{"redirect to another host", say("HTTP/1.1 302 F\r\nLocation: http://127.0.0.2:1/x\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "broken", "127.0.0.2"},
		{"redirect to a file", say("HTTP/1.1 302 F\r\nLocation: file:///etc/shadow\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "broken", "from http to file"},
		{"redirect to nowhere", say("HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n"), metadata, 0, 100, "", ""},
		{"reset", func(_ int, _ *http.Request, c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		}, metadata, 0, 100, "unavailable", ""},
		{"another file in the middle of it", func(n int, _ *http.Request, c net.Conn) {
			if n == 1 {
				_, _ = c.Write([]byte("HTTP/1.1 206 P\r\nETag: \"a\"\r\nConnection: close\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n0123"))
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nETag: \"b\"\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabcdefghij"))
		}, blob, 0, 10, "unavailable", "changed while it was read"},
		{"another size in the middle of it", func(n int, _ *http.Request, c net.Conn) {
			if n == 1 {
				_, _ = c.Write([]byte("HTTP/1.1 206 P\r\nConnection: close\r\nContent-Range: bytes 0-9/100\r\nContent-Length: 10\r\n\r\n0123"))
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 206 P\r\nConnection: close\r\nContent-Range: bytes 4-9/90\r\nContent-Length: 6\r\n\r\n456789"))
		}, blob, 0, 10, "unavailable", "changed while it was read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, fetcher.Options{Server: test.server.start(t)})
			got, err := c.Get(t.Context(), test.path, test.offset, test.limit)
			var e *fetcher.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %d bytes and error %v, want a *fetcher.Error", len(got), err)
			}
			t.Log(err)
			if test.code != "" && e.Code != test.code || !strings.Contains(e.Text, test.text) {
				t.Errorf("got %q, want code %s and a text with %q", e, test.code, test.text)
			}
			if absent := errors.Is(err, fs.ErrNotExist); absent != (e.Code == "absent") {
				t.Errorf("fs.ErrNotExist: got %v for code %s", absent, e.Code)
			}
			if unavailable := errors.Is(err, agent.ErrUnavailable); unavailable == (e.Code == "absent") {
				t.Errorf("agent.ErrUnavailable: got %v for code %s", unavailable, e.Code)
			}
		})
	}
}

func TestAnEndlessBodyIsCutAtTheLimit(t *testing.T) {
	for _, path := range []string{"metadata/timestamp.json", "blobs/sha256/00"} {
		c := dial(t, fetcher.Options{Server: endless(ok + "\r\n").start(t)})
		got, err := c.Get(t.Context(), path, 0, 100_001)
		if err != nil || len(got) != 100_001 {
			t.Errorf("%s: got %d bytes and error %v, want 100001", path, len(got), err)
		}
	}
}

func TestABrokenConnectionIsTakenUpWhereItBroke(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	var ranges []string
	h := raw(func(n int, r *http.Request, c net.Conn) {
		ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		from := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 206 P\r\nETag: \"e\"\r\nConnection: close\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n",
			from, len(body)-1, len(body), len(body)-from)
		_, _ = c.Write(body[from:min(len(body), from+50_000)])
	})
	c := dial(t, fetcher.Options{Server: h.start(t)})
	got, err := c.Get(t.Context(), "blobs/sha256/00", 0, int64(len(body)))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %d bytes and error %v, want %d", len(got), err, len(body))
	}
	want := []string{"bytes=0-131071 ", `bytes=50000-131071 "e"`, `bytes=100000-131071 "e"`}
	if fmt.Sprint(ranges) != fmt.Sprint(want) {
		t.Errorf("got ranges %q, want %q", ranges, want)
	}
}

func TestRetryAfterReachesTheCallerAndIsCapped(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "86400": time.Hour, "-1": 0, "99999999999999999999999": 0, "soon": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": time.Hour, "Fri, 31 Dec 1999 23:59:59 GMT": 0,
	} {
		c := dial(t, fetcher.Options{Server: say("HTTP/1.1 503 B\r\nContent-Length: 0\r\nRetry-After: " + text + "\r\n\r\n").start(t)})
		_, err := c.Get(t.Context(), "metadata/timestamp.json", 0, 100)
		var after agent.RetryAfter
		if !errors.As(err, &after) || after.After() != want {
			t.Errorf("Retry-After %q: got %v, want a wait of %v", text, err, want)
		}
	}
}

func TestHTTPSNeverBecomesHTTP(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the plain server was asked") }))
	defer plain.Close()
	s := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer s.Close()
	c := dial(t, fetcher.Options{Server: s.URL, CAFile: caFile(t, s)})
	_, err := c.Get(t.Context(), "metadata/timestamp.json", 0, 100)
	var e *fetcher.Error
	if !errors.As(err, &e) || e.Code != "broken" || !strings.Contains(e.Text, "from https to http") {
		t.Errorf("got %v, want a refused redirect", err)
	}
}

func TestAForeignCertificateIsRefused(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	c := dial(t, fetcher.Options{Server: s.URL})
	if _, err := c.Get(t.Context(), "a", 0, 1); !errors.Is(err, agent.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want a refused certificate", err)
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	c = dial(t, fetcher.Options{Server: old.URL, CAFile: caFile(t, old)})
	if _, err := c.Get(t.Context(), "a", 0, 1); !errors.Is(err, agent.ErrUnavailable) || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("got %v, want TLS 1.1 refused", err)
	}
}

func TestCancelEndsARequestAtOnce(t *testing.T) {
	arrived := make(chan struct{}, 1)
	c := dial(t, fetcher.Options{Server: raw(func(_ int, _ *http.Request, conn net.Conn) {
		arrived <- struct{}{}
		_, _ = conn.Read(make([]byte, 1)) // until the child hangs up
		arrived <- struct{}{}
	}).start(t), Timeouts: fetcher.Timeouts{Header: time.Minute}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := c.Get(ctx, "a", 0, 1)
	if !errors.Is(err, context.Canceled) || errors.Is(err, agent.ErrUnavailable) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	<-arrived
}
