package fetcher_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/agent/fetcher"
	"github.com/twinkeel/twinkeel/internal/needs"
)

// children lists the processes that this one started.
func children(t *testing.T) []int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that ended
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// onlyChild waits until there is exactly one child, and returns it.
func onlyChild(t *testing.T) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if pids := children(t); len(pids) == 1 {
			return pids[0]
		} else if time.Now().After(deadline) {
			t.Fatalf("got children %v, want one", pids)
		}
	}
}

// procFile reads /proc/PID/name as lines of "key: value".
func procFile(t *testing.T, pid int, name string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

func helloServer(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	t.Cleanup(s.Close)
	return s
}

func TestTheProcessHasNoPrivileges(t *testing.T) {
	t.Setenv("TWINKEEL_SECRET", "x")
	// A descriptor that somebody forgot to mark as closed on exec.
	leak, err := syscall.Open("/etc/passwd", syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(leak) }()
	c := spawn(t, fetcher.Options{Server: helloServer(t).URL})
	pid := onlyChild(t)
	if _, err := c.Get(t.Context(), "a", 0, 10); err != nil {
		t.Fatal(err)
	}
	status := procFile(t, pid, "status")
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapPrm": none, "CapEff": none, "CapInh": none, "CapAmb": none}
	if os.Geteuid() == 0 {
		want["CapBnd"], want["Groups"] = none, ""
		want["Uid"], want["Gid"] = "65534 65534 65534 65534", "65534 65534 65534 65534"
	} else {
		t.Log("without root the process keeps its user")
	}
	for key, value := range want {
		if status[key] != value {
			t.Errorf("%s: got %q, want %q", key, status[key], value)
		}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || bytes.Contains(environ, []byte("TWINKEEL")) || bytes.Contains(environ, []byte("HOME=")) {
		t.Errorf("environment: got %q, %v, want it empty", environ, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("working directory: got %q, %v, want /", cwd, err)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/") && to != "/dev/null" && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			t.Errorf("descriptor %s: got %s, want none of a file", filepath.Base(fd), to)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Max file size 0 0 bytes", "Max core file size 0 0 bytes", "Max open files 256 256 files"} {
		if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), line) {
			t.Errorf("limits: got\n%s\nwant %q", limits, line)
		}
	}
}

const none = "0000000000000000"

func TestAPrivateFileOfRootIsOutOfReach(t *testing.T) {
	needs.That(t, os.Geteuid() == 0, "root to drop privileges from")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	spawn(t, fetcher.Options{})
	pid := onlyChild(t)
	// The kernel is asked with exactly the credentials that the process has.
	status := procFile(t, pid, "status")
	uid, err := strconv.ParseUint(strings.Fields(status["Uid"])[0], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/cat", secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "denied") {
		t.Errorf("got %q, %v, want permission denied", out, err)
	}
}

func TestAKilledProcessCostsOneCall(t *testing.T) {
	var block = make(chan struct{})
	arrived := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/block" {
			arrived <- struct{}{}
			<-block
		}
		_, _ = w.Write([]byte("hello"))
	}))
	defer s.Close()
	defer close(block)
	c := spawn(t, fetcher.Options{Server: s.URL, Timeouts: fetcher.Timeouts{Header: time.Minute}})
	go func() {
		<-arrived
		for _, pid := range children(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	if _, err := c.Get(t.Context(), "block", 0, 10); !errors.Is(err, agent.ErrUnavailable) {
		t.Errorf("the call at work: got %v, want agent.ErrUnavailable", err)
	}
	if got, err := c.Get(t.Context(), "a", 0, 10); err != nil || string(got) != "hello" {
		t.Errorf("the next call: got %q, %v", got, err)
	}
}

func TestAStoppedProcessIsKilledAndReplaced(t *testing.T) {
	c := spawn(t, fetcher.Options{Server: helloServer(t).URL, Timeouts: fetcher.Timeouts{Silence: 300 * time.Millisecond}})
	pid := onlyChild(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.HasPrefix(procFile(t, pid, "status")["State"], "T"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process does not stop")
		}
	}
	if _, err := c.Get(t.Context(), "a", 0, 10); !errors.Is(err, agent.ErrUnavailable) {
		t.Errorf("the stopped process: got %v, want agent.ErrUnavailable", err)
	}
	if got, err := c.Get(t.Context(), "a", 0, 10); err != nil || string(got) != "hello" {
		t.Errorf("the next call: got %q, %v", got, err)
	}
	if now := onlyChild(t); now == pid {
		t.Errorf("process %d is still there", pid)
	}
}

func TestAnIdleProcessIsStoppedUntilItIsNeeded(t *testing.T) {
	c := spawn(t, fetcher.Options{Server: helloServer(t).URL, Idle: 20 * time.Millisecond})
	for deadline := time.Now().Add(10 * time.Second); len(children(t)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process is still there")
		}
	}
	if got, err := c.Get(t.Context(), "a", 0, 10); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCloseLeavesNoProcessBehind(t *testing.T) {
	c := spawn(t, fetcher.Options{})
	onlyChild(t)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if left := children(t); len(left) != 0 {
		t.Errorf("got children %v, want none", left)
	}
	if _, err := c.Get(t.Context(), "a", 0, 1); !errors.Is(err, agent.ErrUnavailable) {
		t.Errorf("after Close: got %v, want agent.ErrUnavailable", err)
	}
}

func TestOtherWebServersWillDo(t *testing.T) {
	dir, blob := repository(t)
	for _, name := range []string{"nginx", "python3"} {
		t.Run(name, func(t *testing.T) {
			needs.Tools(t, name)
			port := freePort(t)
			var cmd *exec.Cmd
			if name == "nginx" {
				_ = os.Chmod(filepath.Dir(dir), 0o755)
				conf := filepath.Join(t.TempDir(), "nginx.conf")
				text := fmt.Sprintf("daemon off; master_process off; error_log stderr; pid %s.pid; events {}\nhttp { access_log off; gzip on; gzip_types *; server { listen 127.0.0.1:%d; root %s; } }\n", conf, port, dir)
				if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd = exec.Command(name, "-c", conf)
			} else {
				cmd = exec.Command(name, "-m", "http.server", strconv.Itoa(port), "--bind", "127.0.0.1", "--directory", dir)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				_ = cmd.Wait()
			})
			url := fmt.Sprintf("http://127.0.0.1:%d", port)
			waitFor(t, url)
			checkRepository(t, dial(t, fetcher.Options{Server: url, Timeouts: fetcher.Timeouts{}}), blob)
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	s := httptest.NewServer(nil)
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func waitFor(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(url + "/metadata/timestamp.json")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestTheBandwidthLimitHolds(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 96<<10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer s.Close()
	c := dial(t, fetcher.Options{Server: s.URL, Bandwidth: 64 << 10})
	start := time.Now()
	got, err := c.Get(t.Context(), "a", 0, 1<<20)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(body) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	// 96 KiB at 64 KiB/s, less the quarter of a second that may go at once: a lower bound
	// cannot fail on a slow machine.
	if took := time.Since(start); took < 1200*time.Millisecond {
		t.Errorf("took %v, want at least 1.25 s", took)
	}
}
