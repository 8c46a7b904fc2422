package fetcher_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent/fetcher"
	"github.com/twinkeel/twinkeel/agent/fetcher/child"
)

// TestMain lets the test binary be what the program is: started again with the
// argument "fetcher", it is the unprivileged process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "fetcher" {
		if err := child.Main(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testLog writes to the test's log.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// short are time-outs that make a hostile server's delays bearable.
var short = fetcher.Timeouts{Connect: 10 * time.Second, Header: time.Second, Window: time.Second, Silence: 8 * time.Second}

// dial returns a client of a child that runs in this process.
func dial(t *testing.T, o fetcher.Options) *fetcher.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- child.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("child: %v", err)
		}
	})
	if o.Timeouts == (fetcher.Timeouts{}) {
		o.Timeouts = short
	}
	if o.Proxy == "" {
		o.Proxy = "none"
	}
	o.Log = testLog(t)
	c, err := fetcher.Dial(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// spawn returns a client of a real process.
func spawn(t *testing.T, o fetcher.Options) *fetcher.Client {
	t.Helper()
	if o.Timeouts == (fetcher.Timeouts{}) {
		o.Timeouts = short
	}
	if o.Proxy == "" {
		o.Proxy = "none"
	}
	o.Memory = memoryForTests
	o.Log = testLog(t)
	c, err := fetcher.Spawn(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
