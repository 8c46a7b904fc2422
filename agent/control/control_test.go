package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/release"
)

// operator is an agent.Operator of functions.
type operator func(context.Context, agent.Request, func(agent.Event)) (agent.Result, error)

func (o operator) Do(ctx context.Context, r agent.Request, emit func(agent.Event)) (agent.Result, error) {
	return o(ctx, r, emit)
}

func answer(text string) operator {
	return func(context.Context, agent.Request, func(agent.Event)) (agent.Result, error) {
		return agent.Result{Outcome: &agent.Outcome{Text: text}}, nil
	}
}

// start serves o and returns a client of it.
func start(t *testing.T, o agent.Operator, g Guard) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "s")
	l, err := Listen(path, g)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- (&Server{Operator: o, Guard: g, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &Client{Path: path}
}

func own() Guard { return Guard{UID: uint32(os.Geteuid())} }

func dial(t *testing.T, c *Client) *net.UnixConn {
	t.Helper()
	conn, err := c.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// raw sends bytes as they are and returns the code and text of the error that comes back.
func raw(t *testing.T, c *Client, data string) (code, text string) {
	t.Helper()
	conn := dial(t, c)
	_, _ = io.WriteString(conn, data)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := readReplies(conn, nil)
	if err == nil {
		t.Fatalf("%.100q: was carried out", data)
	}
	return agent.CodeOf(err), err.Error()
}

func TestRequestEventsAndResultCross(t *testing.T) {
	v, err := release.ParseVersion("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Request{
		Verb: agent.VerbUpdate, Version: v, Now: true, Force: true, Reason: "a \x1b reason", Data: "keep", NoReboot: true,
		Until: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Digest: release.DigestOf([]byte("x")), Slot: "a",
	}
	c := start(t, operator(func(_ context.Context, r agent.Request, emit func(agent.Event)) (agent.Result, error) {
		if !reflect.DeepEqual(r, want) {
			t.Errorf("request: got %+v, want %+v", r, want)
		}
		emit(agent.Event{Step: "stage", Text: "root", Done: 1, Total: 2})
		emit(agent.Event{Step: "stage", Text: "root", Done: 2, Total: 2})
		return agent.Result{Outcome: &agent.Outcome{Text: "done", Reboot: true}, History: []agent.HistoryEntry{{Seq: 7, To: v}}}, nil
	}), own())
	var got []agent.Event
	res, err := c.Do(t.Context(), want, func(e agent.Event) { got = append(got, e) })
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[1] != (agent.Event{Step: "stage", Text: "root", Done: 2, Total: 2}) {
		t.Errorf("events: got %+v", got)
	}
	if res.Outcome == nil || res.Outcome.Text != "done" || !res.Outcome.Reboot || len(res.History) != 1 || res.History[0].To != v {
		t.Errorf("result: got %+v", res)
	}
}

func TestEmptyRequestCrosses(t *testing.T) {
	c := start(t, answer("fine"), own())
	for _, v := range []agent.Verb{agent.VerbStatus, agent.VerbRollback} {
		if _, err := c.Do(t.Context(), agent.Request{Verb: v}, nil); err != nil {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestReasonCodesCross(t *testing.T) {
	for _, err := range []error{
		&agent.Refusal{Reason: agent.Reason{Code: agent.CodeUntrusted, Text: "bad signature"}, Err: io.EOF},
		errors.Join(errors.New("x"), &agent.Refusal{Reason: agent.Reason{Code: agent.CodeHeld, Text: "held"}}),
		errors.New("no code"),
	} {
		c := start(t, operator(func(context.Context, agent.Request, func(agent.Event)) (agent.Result, error) {
			return agent.Result{}, err
		}), own())
		_, got := c.Do(t.Context(), agent.Request{Verb: agent.VerbCheck}, nil)
		if agent.CodeOf(got) != agent.CodeOf(err) || got == nil || !strings.Contains(err.Error(), got.Error()) {
			t.Errorf("got %v, want %v", got, err)
		}
	}
}

func TestBundleCrossesAsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	var kept *os.File
	c := start(t, operator(func(_ context.Context, r agent.Request, _ func(agent.Event)) (agent.Result, error) {
		b, err := io.ReadAll(r.Bundle)
		if err != nil || string(b) != "content" {
			t.Errorf("bundle: got %q, %v", b, err)
		}
		kept = r.Bundle
		return agent.Result{}, nil
	}), own())
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbUpdate, Bundle: f}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the daemon keeps the bundle open: %v", err)
	}
}

// A manifest may be larger than a request.
func TestManifestCrossesWhole(t *testing.T) {
	want := []byte(strings.Repeat("manifest ", release.MaxManifestSize/9))
	c := start(t, operator(func(_ context.Context, r agent.Request, _ func(agent.Event)) (agent.Result, error) {
		if string(r.Factory) != string(want) || r.Bundle != nil {
			t.Errorf("got %d bytes and bundle %v, want %d and none", len(r.Factory), r.Bundle, len(want))
		}
		return agent.Result{}, nil
	}), own())
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbInit, Factory: want}, nil); err != nil {
		t.Error(err)
	}
	tooLong := make([]byte, release.MaxManifestSize+1)
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbInit, Factory: tooLong}, nil); agent.CodeOf(err) != agent.CodeUsage {
		t.Errorf("too long: got %v", err)
	}
}

func TestBundlesThatAreNoFilesAreRefused(t *testing.T) {
	c := start(t, answer("done"), own())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	written, err := os.Create(filepath.Join(t.TempDir(), "w"))
	if err != nil {
		t.Fatal(err)
	}
	written.Close()
	only, err := os.OpenFile(written.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	path, err := os.OpenFile(written.Name(), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	for name, f := range map[string]*os.File{"pipe": r, "write-only": only, "path only": path} {
		if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbUpdate, Bundle: f}, nil); agent.CodeOf(err) != agent.CodeUsage {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestHangingUpInterruptsTheWork(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	c := start(t, operator(func(ctx context.Context, _ agent.Request, _ func(agent.Event)) (agent.Result, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return agent.Result{}, ctx.Err()
	}), own())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := c.Do(ctx, agent.Request{Verb: agent.VerbUpdate}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
}

// A client that never reads costs events, not the agent's time.
func TestDeafClientDoesNotHoldUpTheAgent(t *testing.T) {
	ended := make(chan struct{})
	c := start(t, operator(func(_ context.Context, _ agent.Request, emit func(agent.Event)) (agent.Result, error) {
		for range 10_000 {
			emit(agent.Event{Step: "stage", Text: strings.Repeat("x", 1000)})
		}
		close(ended)
		return agent.Result{}, nil
	}), own())
	conn := dial(t, c)
	if err := sendRequest(conn, agent.Request{Verb: agent.VerbUpdate}); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestHostileRequestsAreRefused(t *testing.T) {
	c := start(t, operator(func(_ context.Context, r agent.Request, _ func(agent.Event)) (agent.Result, error) {
		t.Errorf("was carried out: %+v", r)
		return agent.Result{}, nil
	}), own())
	for name, data := range map[string]string{
		"no JSON":        "GET / HTTP/1.1\r\n\r\n",
		"no object":      "[]\n",
		"empty line":     "\n",
		"wrong format":   `{"format":2,"request":{"verb":"status"}}` + "\n",
		"no format":      `{"request":{"verb":"status"}}` + "\n",
		"unknown verb":   `{"format":1,"request":{"verb":"format-disk"}}` + "\n",
		"no verb":        `{"format":1,"request":{}}` + "\n",
		"unknown field":  `{"format":1,"request":{"verb":"status","path":"/etc/shadow"}}` + "\n",
		"file not there": `{"format":1,"file":true,"request":{"verb":"update"}}` + "\n",
		"file for hold":  `{"format":1,"file":true,"request":{"verb":"hold"}}` + "\n",
		"two objects":    `{"format":1,"request":{"verb":"status"}} {}` + "\n",
		"two lines":      `{"format":1,"request":{"verb":"status"}}` + "\n{}\n",
		"bad version":    `{"format":1,"request":{"verb":"update","version":"-1"}}` + "\n",
		"bad digest":     `{"format":1,"request":{"verb":"undeny","digest":"../.."}}` + "\n",
		"deep":           strings.Repeat("[", 60_000) + "\n",
		"too long":       strings.Repeat(" ", MaxRequest+1),
		"a gigabyte":     strings.Repeat("x", 8<<20), // refused after 64 KiB; the rest is never read
	} {
		t.Run(name, func(t *testing.T) {
			if code, text := raw(t, c, data); code != agent.CodeUsage && !strings.Contains(text, "reset") && !strings.Contains(text, "hung up") {
				t.Errorf("got %s [%s]", text, code)
			}
		})
	}
}

func TestRequestsEndAtTheirLimit(t *testing.T) {
	c := start(t, answer("done"), own())
	if _, text := raw(t, c, strings.Repeat(" ", MaxRequest+1)); !strings.Contains(text, "more than 65536 bytes") {
		t.Errorf("got %s", text)
	}
}

func TestSlowLorisLosesItsPlace(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the limit")
	}
	c := start(t, answer("fine"), own())
	conn := dial(t, c)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				if _, err := conn.Write([]byte(" ")); err != nil {
					return
				}
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(10 * RequestTime))
	if _, err := readReplies(conn, nil); agent.CodeOf(err) != agent.CodeUsage {
		t.Errorf("got %v", err)
	}
}

func TestAThousandConnectionsLeaveTheDaemonAlive(t *testing.T) {
	block := make(chan struct{})
	free := sync.OnceFunc(func() { close(block) })
	defer free()
	c := start(t, operator(func(ctx context.Context, _ agent.Request, _ func(agent.Event)) (agent.Result, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return agent.Result{}, nil
	}), own())
	results := make(chan error, 1000)
	for range 1000 {
		go func() {
			_, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbStatus}, nil)
			results <- err
		}()
	}
	busy := 0
	for range 1000 - MaxConnections {
		// Those beyond the limit come back at once; those within it wait.
		if err := <-results; agent.CodeOf(err) == agent.CodeBusy || err != nil {
			busy++
		}
	}
	if busy != 1000-MaxConnections {
		t.Errorf("got %d refusals, want %d", busy, 1000-MaxConnections)
	}
	free()
	for range MaxConnections {
		if err := <-results; err != nil {
			t.Errorf("within the limit: %v", err)
		}
	}
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbStatus}, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWhoMayChange(t *testing.T) {
	g := Guard{UID: 0, Group: 500, HasGroup: true}
	for _, c := range []struct {
		name string
		g    Guard
		p    Peer
		want bool
	}{
		{"root", g, Peer{UID: 0}, true},
		{"the daemon's own user", Guard{UID: 7}, Peer{UID: 7}, true},
		{"member by primary group", g, Peer{UID: 1000, GID: 500}, true},
		{"member by another group", g, Peer{UID: 1000, GID: 1000, Groups: []uint32{4, 500}}, true},
		{"stranger", g, Peer{UID: 1000, GID: 1000, Groups: []uint32{4, 5}}, false},
		{"group 0 while there is no group", Guard{}, Peer{UID: 1000, GID: 0, Groups: []uint32{0}}, false},
	} {
		if got := c.g.MayChange(c.p); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestStrangersReadButDoNotChange(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may do everything: ask as the nobody that this test drops a thread to.
		t.Run("as nobody", func(t *testing.T) { asNobody(t) })
		return
	}
	c := start(t, answer("fine"), Guard{UID: uint32(os.Geteuid()) + 1})
	strangers(t, c)
}

func strangers(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbStatus}, nil); err != nil {
		t.Errorf("status: %v", err)
	}
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbRollback}, nil); err == nil || !strings.Contains(err.Error(), "neither root nor in group") {
		t.Errorf("rollback: got %v", err)
	}
}

func TestSecondDaemonIsBusyAndADeadOnesSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, own())
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode: got %v, %v", st.Mode(), err)
	}
	if _, err := Listen(path, own()); agent.CodeOf(err) != agent.CodeBusy {
		t.Errorf("second: got %v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	l, err = Listen(path, own())
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, own()); err == nil {
		t.Error("a file in the place of the socket was replaced")
	}
}

func TestNobodyListening(t *testing.T) {
	c := &Client{Path: filepath.Join(t.TempDir(), "s")}
	if _, err := c.Do(t.Context(), agent.Request{Verb: agent.VerbStatus}, nil); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

func TestHostileDaemonIsBounded(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":   "",
		"no JSON":   "hello\n",
		"half":      `{"result":{`,
		"endless":   strings.Repeat("x", MaxReply+2),
		"only news": `{"event":{"step":"x","text":"y"}}` + "\n",
	} {
		if _, err := readReplies(strings.NewReader(data), nil); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func FuzzRequest(f *testing.F) {
	b, err := json.Marshal(message{Format: format, Request: agent.Request{Verb: agent.VerbStatus}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":1,"file":true,"request":{"verb":"update","version":"1.2"}}`))
	f.Add([]byte(`{"format":1,"request":{"verb":"undeny","digest":"00"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		if !known(m.Request.Verb) || m.Request.Bundle != nil {
			t.Fatalf("accepted %+v", m)
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		n, err := decodeMessage(again)
		if err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%s reads back as %+v, %v", again, n, err)
		}
	})
}
