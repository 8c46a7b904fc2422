package apps

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/twinkeel/twinkeel/internal/needs"
)

// inside names the directory of the commands under test, in the process in which a story is
// told; the one that makes room for it does without.
const inside = "TWINKEEL_TEST_INSIDE"

// commands are those under test, built once for all stories.
var commands struct {
	dir   string
	build sync.Once
	err   error
}

func TestMain(m *testing.M) {
	if commands.dir = os.Getenv(inside); commands.dir != "" {
		os.Exit(m.Run())
	}
	var err error
	if commands.dir, err = os.MkdirTemp("/var/tmp", "twinkeel-commands-"); err == nil {
		err = os.Chmod(commands.dir, 0o755)
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(commands.dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func buildCommands() error {
	commands.build.Do(func() {
		c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", commands.dir+"/",
			"../../cmd/twinkeel", "../../cmd/twinkeeld", "../../cmd/twinkeel-shim", "../../cmd/twinkeel-server", "./notes")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			commands.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	return commands.err
}

// TestAnApplicationFromImageToRollback is the whole story of an application on a host
// without slots, told by the real commands and a real runtime: built from a container
// image in three forms, installed, updated with its data, spared from a version that
// loses the data, and taken back to where it was.
func TestAnApplicationFromImageToRollback(t *testing.T) {
	if os.Getenv(inside) == "" {
		apart(t)
		return
	}
	s := newStory(t, "notes")
	one := s.build("1", 1, 1)
	s.server("app", "publish", s.site, one, "--channel", "stable")
	s.twinkeel(0, "init")
	s.daemon()
	s.twinkeel(0, "app", "update", "notes")
	s.post("buy milk")
	s.post("call Ada")
	before := s.get()

	// What becomes of the agent is not the application's business.
	s.killDaemon()
	s.daemon()
	if now := s.get(); now != before {
		t.Errorf("after the agent was killed: got %q, want %q", now, before)
	}

	s.twinkeel(0, "app", "hold", "notes") // lest the new agent is quicker than its operator
	s.server("app", "publish", s.site, s.build("2", 2, 2), "--channel", "stable")
	s.twinkeel(0, "app", "update", "notes", "--force")
	s.twinkeel(0, "app", "unhold", "notes")
	s.wants("2", "buy milk", "call Ada")
	s.post("in the new form")
	data := s.live()

	// A version that loses the data is left by itself, and the data is what it was.
	s.server("app", "publish", s.site, s.build("broken", 3, 3), "--channel", "stable")
	s.contains(s.twinkeel(6, "app", "update", "notes"), "rolled-back")
	s.wants("2", "buy milk", "call Ada", "in the new form")
	if now := s.live(); !bytes.Equal(now, data) {
		t.Errorf("data: got %q, want %q", now, data)
	}
	s.contains(s.twinkeel(0, "app", "why", "notes"), "denied")
	s.contains(s.twinkeel(4, "app", "update", "notes"), "was left on")
	s.contains(s.twinkeel(0, "app", "data", "list", "notes"), "parked")
	s.contains(s.twinkeel(0, "history"), "500")

	// Version 1 does not read what version 2 wrote: it goes back with its own data alone.
	s.contains(s.twinkeel(4, "app", "rollback", "notes", "--data=keep"), "does not read")
	s.twinkeel(0, "app", "rollback", "notes", "--data=restore")
	s.wants("1", "buy milk", "call Ada")
	s.kills()
	s.contains(s.twinkeel(0, "app", "logs", "notes", "--since", "1h"), "notes 1 has 2 notes")
	if out := s.twinkeel(0, "app", "logs", "notes", "--since", "2100-01-01"); out != "" {
		t.Errorf("logs of the future: got %q", out)
	}
	s.follows("notes 1 has 2 notes")
	s.commands()
	s.twinkeel(0, "app", "stop", "notes")
	if got := s.get(); got != "" {
		t.Errorf("stopped: got %q", got)
	}
}

// apart runs the test once more, in namespaces of its own: it sets up networks, and its
// host has a /run for itself.
func apart(t *testing.T) {
	t.Helper()
	_, crun := exec.LookPath("crun")
	_, runc := exec.LookPath("runc")
	needs.That(t, os.Geteuid() == 0 && (crun == nil || runc == nil), "root, and crun or runc")
	if err := buildCommands(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inside+"="+commands.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
