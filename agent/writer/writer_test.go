package writer

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/config"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/partitions/bootloader/simulated"
)

// host returns the configuration of a host of files, of which only the slots exist.
func host(t *testing.T) *config.Config { return hostIn(t, t.TempDir()) }

func hostIn(t testing.TB, dir string) *config.Config {
	t.Helper()
	c := config.Default()
	c.Server, c.Channel, c.Compatible, c.HostID = "http://127.0.0.1:9", "stable", "test", "h"
	c.State, c.Root = filepath.Join(dir, "state"), filepath.Join(dir, "root.json")
	c.Boot.Loader, c.Boot.Path = "simulated", filepath.Join(dir, "record")
	for slot, name := range map[partitions.Slot]string{partitions.A: "a", partitions.B: "b"} {
		c.Slots[slot]["root"] = filepath.Join(dir, name)
		if err := os.WriteFile(c.Slots[slot]["root"], make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func record(t testing.TB, c *config.Config) {
	t.Helper()
	if err := os.WriteFile(c.Boot.Path, make([]byte, simulated.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := simulated.OpenFile(c.Boot.Path)
	if err != nil {
		t.Fatal(err)
	}
	var s bootloader.State
	s.Slots[partitions.A] = bootloader.Record{Priority: 2, Successful: true}
	if err := simulated.Create(f, s, map[partitions.Slot]bootloader.Description{partitions.A: {}}); err != nil {
		t.Fatal(err)
	}
	if _, err := simulated.New(f).PowerOn(t.Context(), "1", nil); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, c *config.Config, create bool) *Writer {
	t.Helper()
	w, err := Open(c, slog.New(slog.DiscardHandler), create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func status(t *testing.T, w *Writer) *agent.Status {
	t.Helper()
	r, err := w.Do(t.Context(), agent.Request{Verb: agent.VerbStatus}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

func has(s *agent.Status, code string) bool {
	return slices.ContainsFunc(s.Reasons, func(r agent.Reason) bool { return r.Code == code })
}

func TestHostWithoutStateOrBootRecordHasAnAgentThatSaysSo(t *testing.T) {
	c := host(t)
	s := status(t, open(t, c, false))
	if !has(s, agent.CodeLoader) || !has(s, agent.CodeState) {
		t.Errorf("reasons: got %+v, want loader and state", s.Reasons)
	}
	if _, err := os.Stat(c.State); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory was made: %v", err)
	}
}

func TestOnlyInitMakesTheStateDirectory(t *testing.T) {
	c := host(t)
	record(t, c)
	w := open(t, c, true)
	if s := status(t, w); s.Running != "a" || has(s, agent.CodeState) || has(s, agent.CodeLoader) {
		t.Errorf("got %+v", s)
	}
	if st, err := os.Stat(c.State); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("state directory: got %v, %v", st, err)
	}
}

func TestReadOnlyStateIsReported(t *testing.T) {
	c := host(t)
	record(t, c)
	// A file in the place of the directory fails for root, too.
	if err := os.WriteFile(c.State, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, c, false)
	if s := status(t, w); !has(s, agent.CodeState) {
		t.Errorf("got %+v", s.Reasons)
	}
	if _, err := w.Do(t.Context(), agent.Request{Verb: agent.VerbInit}, nil); agent.CodeOf(err) != agent.CodeState {
		t.Errorf("init: got %v", err)
	}
}

func TestUnknownLoaderIsReported(t *testing.T) {
	c := host(t)
	c.Boot.Loader = "lilo"
	s := status(t, open(t, c, false))
	if !has(s, agent.CodeLoader) {
		t.Errorf("got %+v", s.Reasons)
	}
}

func TestRebootCommandSaysWhyItFailed(t *testing.T) {
	err := rebooter([]string{"/bin/sh", "-c", "echo 'no, thank you' >&2; exit 3"})(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no, thank you") {
		t.Errorf("got %v", err)
	}
	// Whoever asked may be gone: the machine goes down nevertheless.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rebooter([]string{"/bin/true"})(ctx); err != nil {
		t.Errorf("after a cancel: %v", err)
	}
}

func TestClockSleepsUntilItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (clock{}).Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := (clock{}).Sleep(t.Context(), 0); err != nil {
		t.Errorf("got %v", err)
	}
	if sinceBoot() <= 0 {
		t.Error("the machine was never booted")
	}
}

func TestFactoryRootIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(path, make([]byte, maxRoot+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRoot(path); err == nil {
		t.Error("an endless root was read")
	}
}
