package fetcher_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher"
)

// frame is a frame as the wire has it, from a kind, a count of descriptors and a payload.
func frame(kind byte, files byte, payload string) string {
	n := len(payload)
	return string([]byte{kind, files, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + payload
}

var good = frame('E', 0, `{"code":"ok"}`)

// malicious listens as a fetcher that was taken over: it greets as it should and then
// does what it likes with each connection.
func malicious(t *testing.T, answer func(net.Conn)) *fetcher.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, good)
				_, _ = conn.Read(make([]byte, 4096))
				answer(conn)
			}()
		}
	}()
	c, err := fetcher.Dial(t.Context(), path, fetcher.Options{
		Server: "http://updates.invalid", Log: testLog(t), Timeouts: fetcher.Timeouts{Silence: 300 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAMaliciousFetcherCausesNothingButErrors(t *testing.T) {
	write := func(s string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, s) }
	}
	repeat := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, s); err != nil {
					return
				}
			}
		}
	}
	for name, answer := range map[string]func(net.Conn){
		"nothing":               func(net.Conn) {},
		"silence":               func(net.Conn) { time.Sleep(time.Second) },
		"garbage":               repeat("garbage!"),
		"half a header":         write("D\x00\x00"),
		"half a frame":          write(frame('D', 0, "abcdef")[:10]),
		"half a frame, silence": func(c net.Conn) { write(frame('D', 0, "abcdef")[:10])(c); time.Sleep(time.Second) },
		"a frame of 4 GiB":      write("D\x00\x00\x00\xff\xff\xff\xff"),
		"an end of 1 MiB":       write("E\x00\x00\x00\x00\x10\x00\x00"),
		"an empty data frame":   repeat(frame('D', 0, "")),
		"a frame for the child": write(frame('Q', 0, `{}`)),
		"data beyond the limit": write(frame('D', 0, strings.Repeat("x", 101)) + good),
		"endless data":          repeat(frame('D', 0, "x")),
		"endless signs of life": repeat(frame('A', 0, "")),
		"slow signs of life": func(c net.Conn) {
			for range 300 {
				_, _ = io.WriteString(c, frame('A', 0, ""))
				time.Sleep(10 * time.Millisecond)
			}
		},
		"descriptors announced": write(frame('D', 9, "x")),
		"end without code":      write(frame('E', 0, `{}`)),
		"end with unknown code": write(frame('E', 0, `{"code":"trust me"}`)),
		"end with more members": write(frame('E', 0, `{"code":"ok","path":"/etc/shadow"}`)),
		"end with two values":   write(frame('E', 0, `{"code":"ok"}{"code":"ok"}`)),
		"end that waits a year": write(frame('E', 0, `{"code":"unavailable","retryAfter":31536000000000000}`)),
		"end not in JSON":       write(frame('E', 0, "ok")),
		"end nested deeply":     write(frame('E', 0, strings.Repeat("[", 4000))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := malicious(t, answer)
			got, err := c.Get(t.Context(), "metadata/timestamp.json", 0, 100)
			if !errors.Is(err, agent.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("get: got %d bytes and %v, want agent.ErrUnavailable", len(got), err)
			}
			b, s := payload([]byte("data"), 1<<20)
			base, _ := newBase(t)
			plan, err := c.Decode(t.Context(), b, s, base)
			if err == nil {
				_, err = io.Copy(io.Discard, plan)
				err = errors.Join(err, plan.Close())
			}
			// More than 100 bytes are no fault in a plan.
			if name != "data beyond the limit" && !errors.Is(err, agent.ErrUnavailable) {
				t.Errorf("decode: got %v, want agent.ErrUnavailable", err)
			}
			if err := c.Probe(t.Context(), agent.Probe{TCP: "127.0.0.1:1", Timeout: 50 * time.Millisecond}); !errors.Is(err, agent.ErrUnavailable) {
				t.Errorf("probe: got %v, want agent.ErrUnavailable", err)
			}
		})
	}
}

func TestTextFromTheFetcherIsPrintable(t *testing.T) {
	c := malicious(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, frame('E', 0, `{"code":"unavailable","text":"a\u001b[2Jb\nc\u202ed\u0000"}`))
	})
	_, err := c.Get(t.Context(), "a", 0, 1)
	var e *fetcher.Error
	if !errors.As(err, &e) || e.Text != "a?[2Jb?c?d?" {
		t.Errorf("got %q", err)
	}
}

func TestDescriptorsFromTheFetcherAreNotTaken(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fd := int(null.Fd())
	c := malicious(t, func(conn net.Conn) {
		uc, ok := conn.(*net.UnixConn)
		if !ok {
			return
		}
		for err := error(nil); err == nil; _, err = conn.Read(make([]byte, 4096)) {
			_, _, _ = uc.WriteMsgUnix([]byte(frame('D', 0, "x")+good), unix.UnixRights(fd, fd), nil)
		}
	})
	before := openDescriptors(t)
	for range 20 {
		if _, err := c.Get(t.Context(), "a", 0, 1); err != nil {
			t.Fatal(err)
		}
	}
	if after := openDescriptors(t); after > before+10 {
		t.Errorf("got %d descriptors after, %d before", after, before)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// FuzzFetcherAnswers lets a fetcher say anything: the client must neither panic nor
// take more bytes than it asked for.
func FuzzFetcherAnswers(f *testing.F) {
	for _, s := range []string{good, frame('D', 0, "hello") + good, frame('A', 0, "") + frame('E', 0, `{"code":"absent"}`), "D\x00\x00\x00\xff\xff\xff\xff"} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = ln.Close() })
	answers := make(chan []byte, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, good)
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write(<-answers)
			_ = conn.Close()
		}
	}()
	f.Fuzz(func(t *testing.T, answer []byte) {
		c, err := fetcher.Dial(context.Background(), path, fetcher.Options{Server: "http://updates.invalid"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		answers <- answer
		got, err := c.Get(context.Background(), "a", 0, 100)
		if len(got) > 100 {
			t.Errorf("got %d bytes, want at most 100", len(got))
		}
		if err == nil && !bytes.Contains(answer, got) && len(got) > 0 && bytes.Count(answer, []byte("D")) < 2 {
			t.Errorf("got %q, which was not sent in %q", got, answer)
		}
	})
}
