package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// pair is both ends of a connection.
func pair(t testing.TB) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return ends[0], ends[1]
}

func TestAMessageArrivesWholeWithItsDescriptors(t *testing.T) {
	ours, theirs := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	long := bytes.Repeat([]byte("x"), 100<<10)
	go func() { _ = send(theirs, long, []*os.File{w}); _ = w.Close() }()
	b, files, err := receive(ours)
	if err != nil || len(b) != len(long)+1 || len(files) != 1 {
		t.Fatalf("got %d bytes, %d files, %v, want %d and 1", len(b), len(files), err, len(long)+1)
	}
	if flags, err := unix.FcntlInt(files[0].Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags: got %x, %v, want close-on-exec", flags, err)
	}
	if _, err := files[0].WriteString("hello"); err != nil {
		t.Error(err)
	}
	closeAll(files)
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestAMessageThatIsNoneIsRefused(t *testing.T) {
	for name, write := range map[string]func(*net.UnixConn){
		"nothing":     func(*net.UnixConn) {},
		"half a line": func(c *net.UnixConn) { _, _ = c.Write([]byte(`{"op":`)) },
		"endless":     func(c *net.UnixConn) { _, _ = c.Write(bytes.Repeat([]byte("x"), 2*maxMessage)) },
	} {
		ours, theirs := pair(t)
		go func() {
			write(theirs)
			_ = theirs.Close()
		}()
		if b, files, err := receive(ours); err == nil || len(files) > 0 {
			t.Errorf("%s: got %d bytes, %d files, want an error", name, len(b), len(files))
		}
		_ = ours.Close()
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"op":"status"}`+"\n"), 3)
	f.Add([]byte(`{"op":"exec","argv":["a"]}`+"\n"), 100)
	f.Add([]byte("\n"), 1)
	f.Add(bytes.Repeat([]byte("x"), maxMessage+1), 7000)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		ours, theirs := pair(t)
		cut = min(max(cut, 0), len(b))
		go func() {
			_, _ = theirs.Write(b[:cut])
			_, _ = theirs.Write(b[cut:])
			_ = theirs.Close()
		}()
		got, files, err := receive(ours)
		_ = ours.Close()
		if len(files) > 0 || err == nil && (!bytes.HasSuffix(got, []byte{'\n'}) || len(got) > maxMessage+4<<10 || !bytes.HasPrefix(b, got)) {
			t.Fatalf("got %d bytes, %d files of %d bytes", len(got), len(files), len(b))
		}
		if err == nil {
			var r request
			_ = json.Unmarshal(got, &r)
		}
	})
}

// idle is a supervisor of an application that does not run.
func idle(t *testing.T) (*supervisor, Client) {
	t.Helper()
	dir := t.TempDir()
	s := &supervisor{
		dir: dir, log: slog.New(slog.DiscardHandler), stops: make(chan stopping),
		order: &Order{ID: "web.1", Unit: workloads.Unit{Manifest: &release.AppManifest{Name: "web"}}},
	}
	stop, err := s.listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s, Client{dir}
}

func TestAShimAnswersNonsenseWithAnErrorOrNotAtAll(t *testing.T) {
	_, c := idle(t)
	for want, r := range map[string]request{
		"got operation \"format\"":             {Op: "format"},
		"exec: got 0 descriptors and 1 words":  {Op: "exec", Argv: []string{"sh"}},
		"exec: got 0 descriptors and 0 words":  {Op: "exec"},
		"does not run":                         {Op: "check"},
		"got operation \"aaaaaaaaaaaaaaaaaaaa": {Op: strings.Repeat("a", 5000)},
	} {
		if _, _, err := c.ask(t.Context(), r, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40v: got %v, want %q", r, err, want)
		}
	}
	conn, err := net.Dial("unix", filepath.Join(c.Dir, socketFile))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("no JSON: got %q, %v, want a closed connection", b, err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.State.Running {
		t.Errorf("afterwards: got %+v, %v", st, err)
	}
}

func TestWhoAsksDoesNotWaitForEver(t *testing.T) {
	_, c := idle(t) // nobody takes its stops
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that time is up", err)
	}
}

func TestAnOrderThatIsNoneIsRefused(t *testing.T) {
	for want, text := range map[string]string{
		"neither id nor manifest": `{}`, "unexpected EOF": `{"id":"web.1","unit":{`, "invalid character": "\x00\x00",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, orderFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if o, err := ReadOrder(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %q", text, o, err, want)
		}
	}
	if _, err := ReadOrder(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: got %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.0 302\n", "HTTP/1.1 500 no\r\n", "HTTP/2 200\n", "HTTP/1.1 2000\n", "", "\n", "HTTP/1. 2\x00\x00 \n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		healthy := judge(b) == nil
		fields := strings.Fields(string(b))
		want := len(fields) > 1 && strings.HasPrefix(fields[0], "HTTP/1.") && len(fields[1]) == 3 && strings.ContainsAny(fields[1][:1], "23")
		if healthy && !want {
			t.Errorf("%q passed for healthy", b)
		}
	})
}
