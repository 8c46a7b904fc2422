package fetcher_test

import (
	"bufio"
	"errors"
	"io"
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

// An answer of a fetcher that ends anywhere is no answer, and the next call is served.
func TestAnAnswerCutAtAnyByteIsNoAnswer(t *testing.T) {
	whole := frame('A', 0, "") + frame('D', 0, "hello") + frame('D', 0, " world") + good
	for cut := range len(whole) + 1 {
		c := malicious(t, func(conn net.Conn) { _, _ = io.WriteString(conn, whole[:cut]) })
		got, err := c.Get(t.Context(), "a", 0, 100)
		if cut == len(whole) {
			if err != nil || string(got) != "hello world" {
				t.Errorf("whole: got %q, %v", got, err)
			}
			continue
		}
		if !errors.Is(err, agent.ErrUnavailable) || got != nil {
			t.Errorf("cut at %d: got %q, %v, want agent.ErrUnavailable", cut, got, err)
		}
	}
}

// Frames out of order, or of another conversation, break it.
func TestFramesOutOfOrderAreNoAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"the end, then data":        good + frame('D', 0, "late"),
		"two ends":                  good + good,
		"a greeting, then data":     frame('O', 0, "{}") + frame('D', 0, "x") + good,
		"a request of the writer's": frame('Q', 0, `{"op":"get","path":"a"}`) + good,
		"limits":                    frame('L', 0, `{}`) + good,
		"a connection":              frame('C', 0, "") + good,
		"a payload":                 frame('P', 0, "x") + good,
		"reserved bytes":            "D\x00\x00\x01\x00\x00\x00\x01x" + good,
	} {
		t.Run(name, func(t *testing.T) {
			c := malicious(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, answer)
				_, _ = conn.Read(make([]byte, 4096))
			})
			// What comes behind an end is noticed before the connection is used again.
			for range 3 {
				got, err := c.Get(t.Context(), "a", 0, 100)
				if len(got) > 0 || err != nil && !errors.Is(err, agent.ErrUnavailable) {
					t.Fatalf("got %q, %v", got, err)
				}
			}
		})
	}
}

func TestAStalledHandshakeIsCutOff(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
		}
	}()
	o := fetcher.Options{Server: "https://" + ln.Addr().String(), Timeouts: short}
	o.Timeouts.Connect = 300 * time.Millisecond
	if _, err := dial(t, o).Get(t.Context(), "a", 0, 1); !errors.Is(err, agent.ErrUnavailable) || !strings.Contains(err.Error(), "handshake") {
		t.Errorf("got %v, want a handshake that is given up", err)
	}
}

func TestAServerLeavesNoMark(t *testing.T) {
	seen := make(chan http.Header, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		http.SetCookie(w, &http.Cookie{Name: "host", Value: "tracked"})
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		_, _ = io.WriteString(w, "hello")
	}))
	defer s.Close()
	c := dial(t, fetcher.Options{Server: s.URL})
	for range 2 {
		if _, err := c.Get(t.Context(), "a", 0, 10); err != nil {
			t.Fatal(err)
		}
	}
	<-seen
	second := <-seen
	for _, name := range []string{"Cookie", "If-None-Match", "Referer", "Authorization"} {
		if got := second.Get(name); got != "" {
			t.Errorf("%s: got %q in the second request, want none", name, got)
		}
	}
}

func TestAThousandRedirectsAreNotFollowed(t *testing.T) {
	var n atomic.Int32
	s := raw(func(_ int, r *http.Request, conn net.Conn) {
		n.Add(1)
		w := bufio.NewWriter(conn)
		_, _ = w.WriteString("HTTP/1.1 302 Found\r\nLocation: " + r.URL.Path + "x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = w.Flush()
	})
	if _, err := dial(t, fetcher.Options{Server: s.start(t)}).Get(t.Context(), "a", 0, 1); !errors.Is(err, agent.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n.Load() > 4 {
		t.Errorf("got %d requests, want at most 4", n.Load())
	}
}
