package runner_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/oci"
	"github.com/twinkeel/twinkeel/workloads/runner"
	"github.com/twinkeel/twinkeel/workloads/shim"
)

// The tests run in a network and a mount namespace of their own. The test binary is
// also the shim.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "shim" {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		if err := shim.Main(context.Background(), os.Args[2], log); err != nil {
			log.Error("shim", "err", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const inside = "TWINKEEL_TEST_INSIDE"

// instance and groups are not a host's, nor another test's that runs meanwhile.
var (
	instance = fmt.Sprintf("tk%d", os.Getpid())
	groups   = "/" + instance + "/"
)

// host is a machine to run applications on.
type host struct {
	*runner.Runner
	t       testing.TB
	dir     string
	options runner.Options
}

// runtimes are those that this machine has.
func runtimes(t testing.TB) []string {
	t.Helper()
	needs.That(t, os.Geteuid() == 0, "root, for namespaces and mounts")
	var list []string
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err == nil {
			list = append(list, name)
		}
	}
	needs.That(t, len(list) > 0, "crun or runc")
	return list
}

func newHost(t testing.TB, runtime string) *host {
	t.Helper()
	runtimes(t)
	if err := loopback(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "twinkeel-apps-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	ids, err := durable.OpenDir(filepath.Join(dir, "state"), true)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, options: runner.Options{
		Instance: instance,
		Run:      filepath.Join(dir, "run"), IDs: ids, LogDir: filepath.Join(dir, "log"), Runtime: runtime,
		Shim: []string{exe, "shim"}, Bridge: "tktest0", Network: netip.MustParsePrefix("10.213.0.0/24"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	h.open()
	t.Cleanup(func() {
		for _, name := range []string{"web", "other"} {
			if err := h.Stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
		groups := "/" + h.options.Instance
		left := oci.Groups().Members(groups)
		for range 100 { // a shim that has said its last word is about to end
			if len(left) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
			left = oci.Groups().Members(groups)
		}
		if len(left) > 0 {
			t.Errorf("processes are left: %v", describe(left))
		}
		if err := oci.Groups().Kill(context.Background(), groups); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			h.showLogs()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return h
}

// describe is what is known of processes.
func describe(pids []int) (list []string) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		c, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		list = append(list, fmt.Sprintf("%d: %.120q %.200q %v", pid, b, c, err))
	}
	return list
}

// open is a new agent's Runner in the place of an earlier one.
func (h *host) open() {
	h.t.Helper()
	r, err := runner.Open(h.t.Context(), h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Runner = r
}

func (h *host) showLogs() {
	for _, name := range []string{"web", "other"} {
		var b bytes.Buffer
		_ = h.Logs(context.Background(), name, 20, false, &b)
		h.t.Logf("log of %s:\n%s", name, b.String())
	}
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// program builds one of the commands of internal/probes, once.
func program(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("twinkeel-programs-%d", os.Getpid()))
	out := filepath.Join(dir, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "github.com/twinkeel/twinkeel/internal/probes/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, b)
	}
	return out
}

// image makes an EROFS image of a root with the actor and what change adds to it.
func (h *host) image(name string, change func(root string)) (string, release.Image) {
	h.t.Helper()
	root := filepath.Join(h.dir, "root-"+name)
	for _, d := range []string{"bin", "data", "dev", "etc", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	copyFile(h.t, program(h.t, "actor"), filepath.Join(root, "bin/actor"), 0o755)
	if change != nil {
		change(root)
	}
	file := filepath.Join(h.dir, name+".erofs")
	needs.That(h.t, exec.Command("mkfs.erofs", "--help").Run() == nil, "mkfs.erofs")
	if b, err := exec.Command("mkfs.erofs", "-T0", "-U", "00000000-0000-0000-0000-000000000000", file+".new", root).CombinedOutput(); err != nil {
		h.t.Fatalf("mkfs.erofs: %v\n%s", err, b)
	}
	// One that runs has the file before it mounted.
	if err := errors.Join(os.Rename(file+".new", file), os.RemoveAll(root)); err != nil {
		h.t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		h.t.Fatal(err)
	}
	img := release.Image{Name: release.AppImageName, Size: info.Size()}
	if img.Root, err = verity.Root(f, img.Size, img.Salt); err != nil {
		h.t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		h.t.Fatal(err)
	}
	img.Full = release.Blob{SHA256: release.Digest(sum.Sum(nil)), Size: info.Size(), Head: release.Head{SHA256: release.Digest(sum.Sum(nil)), Size: 100}}
	return file, img
}

func copyFile(t testing.TB, from, to string, mode uint32) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err == nil {
		err = unix.Chmod(to, mode) // past the umask, with setuid, which os.Chmod has another bit for
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unit is a unit called web that runs argv, with a volume at /data.
func (h *host) unit(version, file string, img release.Image, argv ...string) workloads.Unit {
	h.t.Helper()
	data := filepath.Join(h.dir, "state", "data", "web")
	if err := os.MkdirAll(data, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chown(data, 1000, 1000); err != nil {
		h.t.Fatal(err)
	}
	v, err := release.ParseVersion(version)
	if err != nil {
		h.t.Fatal(err)
	}
	second := release.Duration(time.Second)
	return workloads.Unit{Image: file, Data: map[string]string{"db": data}, Generation: "1", Manifest: &release.AppManifest{
		Format: release.AppFormat, Publisher: "example", Name: "web", Version: v, Attempt: 1, MinUpdater: v, Arch: "any", Class: "app",
		Image:     img,
		Run:       release.AppRun{Argv: argv, Cwd: "/", UID: 1000, GID: 1000, Signal: "SIGTERM", Grace: second},
		Isolation: release.AppIsolation{Level: "container"},
		Limits:    release.AppLimits{Memory: 64 << 20, CPU: 1000, Pids: 64, Files: 256, Tmp: 2 << 20, Log: 64 << 10},
		Network:   release.AppNetwork{Mode: "none"},
		Data:      []release.AppVolume{{Name: "db", Path: "/data", Class: "versioned", Quota: 1 << 20}},
		Health:    release.AppHealth{Start: 10 * second, Interval: second, Timeout: 5 * second, Failures: 3},
		Update:    release.AppUpdate{Strategy: "stop-start", Restart: "always"},
	}}
}

// actor starts the actor in one of its parts.
func (h *host) actor(argv ...string) workloads.Unit {
	h.t.Helper()
	file, img := h.image("actor", nil)
	return h.unit("1.0.0", file, img, append([]string{"/bin/actor"}, argv...)...)
}

func (h *host) start(u workloads.Unit) {
	h.t.Helper()
	if err := h.Start(h.t.Context(), u); err != nil {
		h.t.Fatal(err)
	}
}

// exec runs a command in web and returns what it said and its exit code.
func (h *host) exec(argv ...string) (string, int) {
	h.t.Helper()
	var out bytes.Buffer
	code, err := h.Exec(h.t.Context(), "web", argv, nil, &out, &out)
	if err != nil {
		h.t.Fatalf("exec %v: %v", argv, err)
	}
	return out.String(), code
}

// said is web's log.
func (h *host) said() string {
	h.t.Helper()
	var b bytes.Buffer
	if err := h.Logs(h.t.Context(), "web", 0, false, &b); err != nil {
		h.t.Fatal(err)
	}
	return b.String()
}

// eventually waits until ok, which is asked again and again.
func (h *host) eventually(what string, ok func() bool) {
	h.t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatalf("never came about: %s; log:\n%s", what, h.said())
}

func (h *host) status() workloads.State {
	h.t.Helper()
	st, err := h.Status(h.t.Context(), "web")
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// eachRuntime runs a test with every runtime of this machine.
func eachRuntime(t *testing.T, test func(*testing.T, *host)) {
	for _, name := range runtimes(t) {
		t.Run(name, func(t *testing.T) { test(t, newHost(t, name)) })
	}
}

func contains(t testing.TB, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}
