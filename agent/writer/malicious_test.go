package writer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher/child"
	"github.com/twinkeel/twinkeel/internal/machine"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
	"github.com/twinkeel/twinkeel/release"
)

// captured is a fetcher process that was taken over: all that the real one answers
// passes through its hands.
type captured struct {
	t    *testing.T
	real string // socket of the honest process

	mu     sync.Mutex
	evil   func(answer) []byte // what to send instead of a frame; nil is to hang up
	frames int                 // passed on since evil was set
}

// answer is one frame on its way to the writer.
type answer struct {
	n      int    // counts frames
	op     string // of the request that it answers: get, decode, or "" for the greeting
	path   string
	header []byte
	body   []byte
	conn   *net.UnixConn // to the writer
}

// frame builds one of any kind.
func frame(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(body))), body...)
}

func (a answer) bytes() []byte { return append(bytes.Clone(a.header), a.body...) }

// capture starts a real fetcher and the one in its way, and returns the latter's socket.
func capture(t *testing.T) (*captured, string) {
	t.Helper()
	dir := t.TempDir()
	c := &captured{t: t, real: filepath.Join(dir, "real")}
	ln, err := net.Listen("unix", c.real)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- child.Serve(ctx, ln) }()
	front, err := net.Listen("unix", filepath.Join(dir, "front"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = front.Close(); cancel(); <-served })
	go func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			go c.pass(conn.(*net.UnixConn))
		}
	}()
	return c, filepath.Join(dir, "front")
}

func (c *captured) turn(evil func(answer) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evil, c.frames = evil, 0
}

// pass carries one connection.
func (c *captured) pass(writer *net.UnixConn) {
	defer func() { _ = writer.Close() }()
	real, err := net.Dial("unix", c.real)
	if err != nil {
		return
	}
	defer func() { _ = real.Close() }()
	var mu sync.Mutex
	op, path := "", ""
	go func() {
		defer func() { _ = real.Close() }()
		buf, oob := make([]byte, 64<<10), make([]byte, 256)
		for {
			n, on, _, _, err := writer.ReadMsgUnix(buf, oob)
			if n == 0 || err != nil {
				return
			}
			mu.Lock()
			if _, rest, ok := bytes.Cut(buf[:n], []byte(`"op":"`)); ok {
				op = string(rest[:max(0, bytes.IndexByte(rest, '"'))])
				path = ""
				if _, p, ok := bytes.Cut(rest, []byte(`"path":"`)); ok {
					path = string(p[:max(0, bytes.IndexByte(p, '"'))])
				}
			}
			mu.Unlock()
			err = sendAll(real.(*net.UnixConn), buf[:n], oob[:on])
			closeRights(oob[:on])
			if err != nil {
				return
			}
		}
	}()
	for {
		a := answer{header: make([]byte, 8), conn: writer}
		if _, err := io.ReadFull(real, a.header); err != nil {
			return
		}
		a.body = make([]byte, binary.BigEndian.Uint32(a.header[4:]))
		if _, err := io.ReadFull(real, a.body); err != nil {
			return
		}
		mu.Lock()
		a.op, a.path = op, path
		mu.Unlock()
		c.mu.Lock()
		evil := c.evil
		a.n = c.frames
		c.frames++
		c.mu.Unlock()
		out := a.bytes()
		if evil != nil {
			out = evil(a)
		}
		if out == nil {
			return
		}
		if _, err := writer.Write(out); err != nil {
			return
		}
	}
}

// sendAll sends all of b, and oob with its first byte: one message may take a part only.
func sendAll(c *net.UnixConn, b, oob []byte) error {
	n, _, err := c.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	return null
}

func closeRights(oob []byte) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range list {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}
}

// target is a host on release 1 with release 2 on offer.
type target struct {
	c    *captured
	w    *Writer
	slot string
	next []byte
	boot string
	old  map[string][]byte // the repository before release 2
	now  *map[string][]byte
}

func newTarget(t *testing.T) *target { return newTargetWith(t, 0, nil) }

// newTargetWith makes release 1 with an epoch and lets change alter the directive for
// release 2, which has epoch 0.
func newTargetWith(t *testing.T, epoch uint64, change func(*release.Directive)) *target {
	t.Helper()
	const size = 1 << 20
	image := sim.Image(size, 1)
	next := bytes.Clone(image)
	for i := 0; i < size; i += 16 * 4096 {
		copy(next[i:i+3*4096], sim.Image(3*4096, uint64(i+2)))
	}
	p, err := sim.NewPublisher(t.TempDir(), time.Now().AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Release(sim.Spec{Version: "1", Epoch: epoch, Images: map[string][]byte{"root": image}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Direct(first, nil); err != nil {
		t.Fatal(err)
	}
	tg := &target{next: next, old: p.Files()}
	second, err := p.Release(sim.Spec{Version: "2", Images: map[string][]byte{"root": next}, From: []*sim.Release{first}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Direct(second, change); err != nil {
		t.Fatal(err)
	}
	files := p.Files()
	tg.now = &files
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := (*tg.now)[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(server.Close)
	c := host(t)
	c.Server, c.Compatible = server.URL, sim.Compatible
	c.Boot.Reboot = []string{"true"}
	tg.slot, tg.boot = c.Slots[partitions.B]["root"], c.Boot.Path
	for _, slot := range partitions.Slots {
		if err := os.WriteFile(c.Slots[slot]["root"], make([]byte, 2<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	manifest, err := first.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	factory := filepath.Join(t.TempDir(), "factory.img")
	if err := os.WriteFile(factory, image, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := release.DecodeManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := machine.WriteImage(c.Slots[partitions.A]["root"], factory, m.Images[0].Salt); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Root, p.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, c)
	tg.c, c.Fetcher = capture(t)
	if tg.w, err = Open(c, slog.New(slog.DiscardHandler), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tg.w.Close() })
	if _, err := tg.w.Do(t.Context(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil); err != nil {
		t.Fatal(err)
	}
	return tg
}

// update tries, and fails the test if a slot is armed that does not hold the release.
func (tg *target) update(t *testing.T) error {
	t.Helper()
	_, err := tg.w.Do(t.Context(), agent.Request{Verb: agent.VerbUpdate, NoReboot: true}, nil)
	f, ferr := simulated.OpenFile(tg.boot)
	if ferr != nil {
		t.Fatal(ferr)
	}
	state, ferr := simulated.New(f).Load(t.Context())
	if ferr != nil {
		t.Fatal(ferr)
	}
	b := state.Slots[partitions.B]
	armed := b.Priority > 0 && (b.Tries > 0 || b.Successful)
	got, ferr := os.ReadFile(tg.slot)
	if ferr != nil {
		t.Fatal(ferr)
	}
	whole := sha256.Sum256(got[:len(tg.next)]) == sha256.Sum256(tg.next)
	if armed && !whole {
		t.Fatal("a slot is armed that does not hold the release")
	}
	if err == nil && !armed {
		t.Errorf("the update succeeded and armed nothing")
	}
	return err
}

// TestACapturedFetcherCausesNothingButDelay lets the real writer update with a fetcher
// that lies in every answer, or in some, and then with an honest one: nothing wrong is
// ever armed, and what was done to it leaves no mark (no denial, no pause).
func TestACapturedFetcherCausesNothingButDelay(t *testing.T) {
	null := openNull(t)
	onData := func(op string, change func(answer) []byte) func(*target) func(answer) []byte {
		return func(*target) func(answer) []byte {
			return func(a answer) []byte {
				if a.op != op || a.header[0] != 'D' {
					return a.bytes()
				}
				return change(a)
			}
		}
	}
	flip := func(a answer) []byte { a.body[len(a.body)/2] ^= 1; return a.bytes() }
	noise := func(a answer) []byte {
		return frame('D', bytes.Repeat([]byte{0xff, 0x00, 0x5a}, len(a.body))[:len(a.body)])
	}
	for name, evil := range map[string]func(*target) func(answer) []byte{
		"metadata flipped": onData("get", flip), "plan flipped": onData("decode", flip),
		"metadata is noise": onData("get", noise), "plan is noise": onData("decode", noise),
		"plan of zeros":     onData("decode", func(a answer) []byte { return frame('D', make([]byte, len(a.body))) }),
		"plan frames twice": onData("decode", func(a answer) []byte { return append(a.bytes(), a.bytes()...) }),
		"plan frames lost":  onData("decode", func(answer) []byte { return []byte{} }),
		"plan cut":          onData("decode", func(a answer) []byte { return frame('D', a.body[:len(a.body)/2+1]) }),
		"data twice":        onData("get", func(a answer) []byte { return append(a.bytes(), a.bytes()...) }),
		"length too small":  onData("decode", func(a answer) []byte { a.header[7]--; return a.bytes() }),
		"length too large":  onData("decode", func(a answer) []byte { a.header[5]++; return a.bytes() }),
		"length of 4 GiB":   onData("get", func(a answer) []byte { copy(a.header[4:], "\xff\xff\xff\xff"); return a.bytes() }),
		"endless plan": onData("decode", func(a answer) []byte {
			for {
				if _, err := a.conn.Write(a.bytes()); err != nil {
					return nil
				}
			}
		}),
		"endless data": onData("get", func(a answer) []byte {
			for {
				if _, err := a.conn.Write(a.bytes()); err != nil {
					return nil
				}
			}
		}),
		"endless signs of life": onData("decode", func(a answer) []byte {
			for {
				if _, err := a.conn.Write(frame('A', nil)); err != nil {
					return nil
				}
			}
		}),
		"the end before the data": onData("decode", func(a answer) []byte { return append(frame('E', []byte(`{"code":"ok"}`)), a.bytes()...) }),
		"descriptors": onData("decode", func(a answer) []byte {
			b := flip(a)
			if err := sendAll(a.conn, b, unix.UnixRights(int(null.Fd()), int(null.Fd()))); errors.Is(err, unix.EBADF) {
				t.Error(err)
			}
			return []byte{}
		}),
		"one answer for all": func(*target) func(answer) []byte {
			var kept []byte
			return func(a answer) []byte {
				if a.op == "get" && a.header[0] == 'D' {
					if kept == nil {
						kept = bytes.Clone(a.body)
					}
					return frame('D', kept)
				}
				return a.bytes()
			}
		},
		"every plan is that of the first segment": func(*target) func(answer) []byte {
			var kept []byte
			return func(a answer) []byte {
				if a.op == "decode" && a.header[0] == 'D' {
					if kept != nil {
						return frame('D', kept)
					}
					kept = bytes.Clone(a.body)
					kept[len(kept)-1] ^= 1
					return frame('D', kept)
				}
				return a.bytes()
			}
		},
		"nothing is there": func(*target) func(answer) []byte {
			return func(a answer) []byte {
				if a.op == "" {
					return a.bytes()
				}
				return frame('E', []byte(`{"code":"absent"}`))
			}
		},
		"all is broken":  func(*target) func(answer) []byte { return ends(`{"code":"broken","text":"x"}`) },
		"come back soon": func(*target) func(answer) []byte { return ends(`{"code":"unavailable","retryAfter":3600000000000}`) },
		"a replay of yesterday's repository": func(tg *target) func(answer) []byte {
			// The host has seen today's.
			if _, err := tg.w.Do(tg.c.t.Context(), agent.Request{Verb: agent.VerbCheck}, nil); err != nil {
				tg.c.t.Fatal(err)
			}
			*tg.now = tg.old
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tg := newTarget(t)
			honest := *tg.now
			tg.c.turn(evil(tg))
			for range 2 {
				if err := tg.update(t); err == nil {
					t.Fatal("the update succeeded")
				}
			}
			tg.c.turn(nil)
			*tg.now = honest
			if err := tg.update(t); err != nil {
				t.Errorf("with an honest fetcher: %v", err)
			}
		})
	}
}

// TestADirectiveCannotLeadAstray: who holds the fleet's key chooses among what the
// channel's key signed, within what the host has seen.
func TestADirectiveCannotLeadAstray(t *testing.T) {
	version := func(s string) release.Version {
		v, err := release.ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, c := range map[string]struct {
		epoch  uint64
		change func(*release.Directive)
	}{
		"an unsigned release":                 {0, func(d *release.Directive) { d.Version = version("9") }},
		"another channel's directive":         {0, func(d *release.Directive) { d.Channel = "other" }},
		"a release below the epoch":           {5, nil},
		"a release below the epoch, comeDown": {5, func(d *release.Directive) { d.ComeDown = true }},
		"an older release":                    {0, func(d *release.Directive) { d.Version = version("0.9"); d.ComeDown = true }},
	} {
		t.Run(name, func(t *testing.T) {
			tg := newTargetWith(t, c.epoch, c.change)
			for range 2 {
				err := tg.update(t)
				t.Log(err)
				if err == nil {
					t.Fatal("the update succeeded")
				}
			}
			if got, err := os.ReadFile(tg.slot); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
				t.Errorf("the other slot was written: %v", err)
			}
		})
	}
}

func ends(text string) func(answer) []byte {
	return func(a answer) []byte {
		if a.op == "" {
			return a.bytes()
		}
		return frame('E', []byte(text))
	}
}

// TestAFetcherThatDiesAtEachFrameCausesNothingButDelay hangs up at the first frame, the
// second, and so on, until an update gets through; half a frame counts as well.
func TestAFetcherThatDiesAtEachFrameCausesNothingButDelay(t *testing.T) {
	tg := newTarget(t)
	for n := 0; ; n++ {
		for _, half := range []bool{true, false} {
			tg.c.turn(func(a answer) []byte {
				if a.n < n {
					return a.bytes()
				}
				if half {
					_, _ = a.conn.Write(a.bytes()[:len(a.bytes())/2])
				}
				return nil
			})
			if err := tg.update(t); err == nil {
				if n < 10 {
					t.Fatalf("an update took %d frames: the test has lost its meaning", n)
				}
				return
			}
		}
		if n > 1000 {
			t.Fatal(fmt.Errorf("no update after %d frames", n))
		}
	}
}
