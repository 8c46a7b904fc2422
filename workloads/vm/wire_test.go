package vm_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/workloads/vm"
)

// pipe is a line, and the guest's end of it.
func pipe(t *testing.T) (*vm.Line, net.Conn) {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() { _ = guest.Close(); _ = host.Close() })
	return vm.NewLine(host), guest
}

func say(t *testing.T, to io.Writer, frames ...vm.Frame) {
	t.Helper()
	w := vm.NewWriter(to)
	for _, f := range frames {
		_ = w.Write(f) // a line that was cut takes no more
	}
}

func TestACommandsOutputAndCodeComeBack(t *testing.T) {
	l, guest := pipe(t)
	go func() {
		f, err := vm.Read(guest)
		if err != nil || f.Kind != vm.Exec || string(f.Data) != `["ls","/"]` {
			t.Errorf("got %+v, %v, want the command", f, err)
		}
		go func() { _, _ = io.Copy(io.Discard, guest) }()
		say(t, guest, vm.Frame{Kind: vm.Output, ID: f.ID, Data: []byte("bin\n")}, vm.Frame{Kind: vm.Errors, ID: f.ID, Data: []byte("oh")},
			vm.Frame{Kind: vm.Exit, ID: f.ID, Data: vm.Number(3)})
	}()
	var out, errs bytes.Buffer
	code, err := l.Exec(t.Context(), []string{"ls", "/"}, strings.NewReader("in"), &out, &errs)
	if code != 3 || err != nil || out.String() != "bin\n" || errs.String() != "oh" {
		t.Errorf("got %d, %v, %q and %q", code, err, &out, &errs)
	}
}

func TestAGuestThatBreaksTheProtocolIsCutOff(t *testing.T) {
	flood := func(id uint32) (list []vm.Frame) {
		for range 4 {
			list = append(list, vm.Frame{Kind: vm.Output, ID: id, Data: make([]byte, vm.MaxFrame)})
		}
		return list
	}
	for what, frames := range map[string][]vm.Frame{
		"a host's frame":        {{Kind: vm.Exec, ID: 1}},
		"two starts":            {{Kind: vm.Started}, {Kind: vm.Started}},
		"an outcome of no use":  {{Kind: vm.Ended, Data: []byte("x")}},
		"more than was allowed": flood(1),
		"a kind that is none":   {{Kind: 99}},
	} {
		t.Run(what, func(t *testing.T) {
			l, guest := pipe(t)
			go func() {
				_, _ = vm.Read(guest)
				go func() { _, _ = io.Copy(io.Discard, guest) }()
				say(t, guest, frames...)
			}()
			stuck, release := io.Pipe() // a reader that takes nothing
			defer func() { _, _ = stuck.Close(), release.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			go func() { <-l.Down; _ = stuck.Close() }()
			if code, err := l.Exec(ctx, []string{"x"}, nil, release, release); err == nil || ctx.Err() != nil {
				t.Errorf("got code %d and %v, want that it is cut off", code, err)
			}
		})
	}
}

func FuzzFramesAreReadOrRefused(f *testing.F) {
	var b bytes.Buffer
	_ = vm.NewWriter(&b).Write(vm.Frame{Kind: vm.Output, ID: 7, Data: []byte("hello")})
	f.Add(b.Bytes())
	f.Add([]byte{byte(vm.Exit), 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := vm.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := vm.NewWriter(&again).Write(frame); err != nil || !bytes.HasPrefix(b, again.Bytes()) {
			t.Errorf("got %+v, which is written as %x, %v", frame, again.Bytes(), err)
		}
	})
}

func TestCreditIsNeverMoreThanAWindow(t *testing.T) {
	c := vm.NewCredit()
	sent := 0
	c.Add(1 << 20) // a host that gives too much
	for n := c.Take(1); n > 0 && sent < 1<<20; n = c.Take(1) {
		sent++
		if sent > 100 {
			c.End()
		}
	}
	if sent > vm.Window {
		t.Errorf("sent %d bytes without a word of the host's, want at most %d", sent, vm.Window)
	}
}
