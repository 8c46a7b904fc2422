package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent/fetcher/internal/wire"
	"github.com/twinkeel/twinkeel/deltas"
)

func pair(t *testing.T) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		uc, ok := c.(*net.UnixConn)
		if !ok {
			t.Fatalf("got %T", c)
		}
		t.Cleanup(func() { _ = uc.Close() })
		conns[i] = uc
	}
	return conns[0], conns[1]
}

func TestFramesAndDescriptorsArriveAsSent(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	defer func() { _ = w.Close() }()
	if err := wire.Send(a, wire.KindRequest, []byte("with a file"), w); err != nil {
		t.Fatal(err)
	}
	if err := wire.Send(a, wire.KindPayload, []byte("without"), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"with a file", "without"} {
		h, file, err := wire.ReceiveHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if (file != nil) != (want == "with a file") {
			t.Errorf("%s: got file %v", want, file)
		}
		got := make([]byte, h.Length)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if file != nil {
			_, err := file.WriteString("x")
			_ = file.Close()
			if n, rerr := r.Read(make([]byte, 1)); err != nil || n != 1 {
				t.Errorf("the descriptor does not lead to the pipe: %v, %v", err, rerr)
			}
		}
	}
	_ = a.Close()
	if _, _, err := wire.ReceiveHeader(b); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: got %v, want io.EOF", err)
	}
}

func TestDescriptorsThatAreNotAnnouncedAreRefusedAndClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	unannounced := wire.Header{Kind: wire.KindRequest}.Bytes()
	announced := wire.Header{Kind: wire.KindRequest, Files: 1}.Bytes()
	for name, send := range map[string]func(*net.UnixConn) error{
		"not announced": func(c *net.UnixConn) error {
			_, _, err := c.WriteMsgUnix(unannounced[:], unix.UnixRights(int(w.Fd())), nil)
			return err
		},
		"too many": func(c *net.UnixConn) error {
			fd := int(w.Fd())
			_, _, err := c.WriteMsgUnix(announced[:], unix.UnixRights(fd, fd, fd, fd), nil)
			return err
		},
		"announced only": func(c *net.UnixConn) error { _, err := c.Write(announced[:]); return err },
	} {
		a, b := pair(t)
		if err := send(a); err != nil {
			t.Fatal(err)
		}
		if _, file, err := wire.ReceiveHeader(b); err == nil || file != nil {
			t.Errorf("%s: got file %v and error %v, want an error", name, file, err)
		}
	}
	// Once ours is closed as well, the pipe has no writer left: nothing leaked.
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("pipe: got %v, want io.EOF", err)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	good := deltas.Segment{Length: 1, PayloadLength: 1}
	for _, r := range []wire.Request{
		{}, {Op: "post"}, {Op: wire.OpGet, Path: "a"}, {Op: wire.OpGet, Path: "a", Limit: wire.MaxGet + 1},
		{Op: wire.OpGet, Path: "a", Limit: 1, Offset: -1}, {Op: wire.OpGet, Path: "a", Limit: 1, Offset: 1<<63 - 1},
		{Op: wire.OpGet, Path: "../a", Limit: 1}, {Op: wire.OpDecode}, {Op: wire.OpDecode, Segment: &deltas.Segment{Length: 1, PayloadLength: -1}},
		{Op: wire.OpDecode, Segment: &deltas.Segment{Length: 1, PayloadLength: deltas.MaxPayload + 1}}, {Op: wire.OpDecode, Segment: &deltas.Segment{}},
		{Op: wire.OpProbe, Timeout: time.Second}, {Op: wire.OpProbe, TCP: "a", HTTP: "b", Timeout: time.Second}, {Op: wire.OpProbe, TCP: "a"},
	} {
		if err := r.Validate(); err == nil {
			t.Errorf("%+v: got no error", r)
		}
	}
	for _, r := range []wire.Request{
		{Op: wire.OpGet, Path: "metadata/1.root.json", Limit: 1, Offset: 1 << 40}, {Op: wire.OpDecode, Segment: &good}, {Op: wire.OpProbe, TCP: "a", Timeout: 1},
	} {
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: got %v", r, err)
		}
	}
}

// FuzzHeader checks that what is accepted is within the limits and encodes back.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("Q\x01\x00\x00\x00\x00\x00\x10"))
	f.Add([]byte("E\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wire.ReadHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		if h.Length > 512<<10 || h.Files > 1 || h.Length < 0 {
			t.Errorf("got %+v beyond every limit", h)
		}
		if again := h.Bytes(); !bytes.Equal(again[:], b[:wire.HeaderSize]) {
			t.Errorf("got %x from %x", again, b[:wire.HeaderSize])
		}
	})
}

// FuzzMessages reads anything as each of the messages; what is valid stays so when it is
// written and read again.
func FuzzMessages(f *testing.F) {
	for _, s := range []string{
		`{"code":"ok"}`, `{"code":"absent","text":"x","status":404,"retryAfter":1}`, `{"op":"get","path":"metadata/1.root.json","limit":5}`,
		`{"op":"probe","tcp":"127.0.0.1:1","timeout":5}`, `{"server":"https://a/b","userAgent":"x","timeouts":{"connect":1,"header":1,"window":1}}`,
		`{"op":"decode","segment":{"Offset":0,"Length":4096,"PayloadLength":1}}`, `{"memory":1,"files":2,"tasks":3}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []interface{ Validate() error }{&wire.End{}, &wire.Request{}, &wire.Options{}} {
			if wire.Decode(b, m) != nil || m.Validate() != nil {
				continue
			}
			again, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := wire.Decode(again, m); err != nil {
				t.Errorf("%T: %s reads back with %v", m, again, err)
			}
			if err := m.Validate(); err != nil {
				t.Errorf("%T: %s is not valid any more: %v", m, again, err)
			}
		}
	})
}

// FuzzPath checks that no accepted path leaves its directory or means something to a URL.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"metadata/1.root.json", "../x", "a/./b", "/a", "a//b", ".x", "a/.x", "%2e", "a?b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if wire.CheckPath(path) == nil && (strings.HasPrefix(path, "/") || strings.Contains("/"+path, "/.") || strings.ContainsAny(path, "%?#\\:\x00 \r\n") || path == "") {
			t.Errorf("got %q accepted", path)
		}
	})
}
