package runner_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/mount"
	"github.com/twinkeel/twinkeel/workloads/spec"
)

// realShim builds the program that hosts have.
func realShim(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "twinkeel-shim")
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "github.com/twinkeel/twinkeel/cmd/twinkeel-shim")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, b)
	}
	return file
}

func TestAShimIsSmall(t *testing.T) {
	runtimes(t)
	program := realShim(t)
	eachRuntime(t, func(t *testing.T, h *host) {
		h.options.Shim = []string{program}
		h.open()
		h.start(h.actor("sleep"))
		var pids []int
		h.eventually("the shim alone", func() bool { pids = h.shims(); return len(pids) == 1 })
		// A second after the start it gives back what that took.
		const limit = 4 << 10
		h.eventually("a small shim", func() bool { return residentKiB(t, pids[0]) <= limit })
		t.Logf("the shim holds %d KiB", residentKiB(t, pids[0]))
		// What it gave back it did not need.
		if out, code := h.exec("/bin/actor", "processes"); code != 0 {
			t.Errorf("exec: got code %d and %q", code, out)
		}
		contains(t, h.said(), "sleeping")
	})
}

// Checks come for as long as an application runs. What they take is given back after a while,
// and while they come there is a limit to it.
func TestAShimThatIsAskedOftenIsSmall(t *testing.T) {
	runtimes(t)
	program := realShim(t)
	h := newHost(t, "")
	h.options.Shim = []string{program}
	h.open()
	u := h.actor("serve", "x")
	u.Manifest.Health.TCP = 8080
	h.start(u)
	h.eventually("an answer", func() bool { return h.Healthy(t.Context(), "web") == nil })
	pid := h.shims()[0]
	// The first ones come before what the start took is given back.
	for _, c := range []struct{ checks, during, after int }{{30, 7 << 10, 4 << 10}, {300, 6 << 10, 4 << 10}} {
		got, most := 0, 0
		for range c.checks {
			if err := h.Healthy(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			got = residentKiB(t, pid)
			most = max(most, got)
		}
		t.Logf("after %d checks in a row the shim holds %d KiB, and at most %d in between", c.checks, got, most)
		if most > c.during {
			t.Errorf("%d checks: got %d KiB, want at most %d", c.checks, most, c.during)
		}
		h.eventually("a small shim", func() bool { return residentKiB(t, pid) <= c.after })
		t.Logf("and soon after %d KiB", residentKiB(t, pid))
	}
	if out, code := h.exec("/bin/actor", "processes"); code != 0 { // what it gave back it did not need
		t.Errorf("exec: got code %d and %q", code, out)
	}
}

// BenchmarkStart starts an application that does nothing, and the same bundle by the
// runtime alone, in turn. It reports the processor time of all processes that each start
// takes part of, until the shim has come to rest, and the difference. Run it with
// -benchtime 15x; the figures are medians.
func BenchmarkStart(b *testing.B) {
	names := runtimes(b)
	program := realShim(b)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			h := newHost(b, name)
			h.options.Shim = []string{program}
			own := ownGroup(b)
			memory := h.memory()
			h.options.Run = filepath.Join(memory, "run")
			h.open()
			u := h.actor("sleep")
			u.Verified = identity(b, u.Image) // as the agent does
			var whole, shims, bare, added []float64
			for n := 0; b.Loop(); n++ {
				before := usage(b, own)
				h.start(u)
				time.Sleep(1500 * time.Millisecond)
				id := "web." + strconv.Itoa(n)
				s := usage(b, groups+id+".shim") // the runtime's first process included
				w := usage(b, own) - before + usage(b, groups+id) + s
				if n == 0 {
					h.bundle(u, id, filepath.Join(memory, "bare"))
				}
				if err := h.Stop(b.Context(), "web"); err != nil {
					b.Fatal(err)
				}
				a := h.bare(name, own, filepath.Join(memory, "bare"))
				whole, shims, bare, added = append(whole, w), append(shims, s), append(bare, a), append(added, w-a)
			}
			for unit, list := range map[string][]float64{"cpu-ms": whole, "shim-ms": shims, "runtime-ms": bare, "added-ms": added} {
				slices.Sort(list)
				b.ReportMetric(list[len(list)/2], unit)
			}
		})
	}
}

// identity is that of an image that was verified.
func identity(b *testing.B, file string) workloads.Identity {
	b.Helper()
	time.Sleep(50 * time.Millisecond) // not of what was written just now
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	return mount.Identify(f)
}

// accounts is where the kernel counts processor time by groups.
const accounts = "/sys/fs/cgroup/cpuacct"

// ownGroup puts this process into a group of its own, and gives it a mount namespace that
// it can mount in, as a shim has.
func ownGroup(b *testing.B) string {
	b.Helper()
	needs.That(b, exec.Command("test", "-e", accounts+"/cpuacct.usage").Run() == nil, "control groups of version 1")
	path := "twinkeel-bench-" + strconv.Itoa(os.Getpid())
	err := os.MkdirAll(filepath.Join(accounts, path), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(accounts, path, "cgroup.procs"), []byte("0"), 0)
	}
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(accounts, "cgroup.procs"), []byte("0"), 0)
		_ = os.Remove(filepath.Join(accounts, path))
	})
	return path
}

// memory is a directory in memory, as that of shims is on a host, in this process's mount
// namespace.
func (h *host) memory() string {
	h.t.Helper()
	dir := filepath.Join(h.dir, "memory")
	err := os.Mkdir(dir, 0o711)
	if err == nil {
		err = unix.Mount("none", dir, "tmpfs", 0, "mode=711")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// usage is the processor time that a group has taken, in milliseconds.
func usage(b *testing.B, group string) float64 {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(accounts, group, "cpuacct.usage"))
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return ns / 1e6
}

// bundle makes one like that of the shim, with mounts of this process's own.
func (h *host) bundle(u workloads.Unit, id, dir string) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.options.Run, id, "config.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), filepath.Join(h.options.Run, id), dir))
	text = []byte(strings.ReplaceAll(string(text), groups+id, groups+"bare"))
	var config struct {
		Linux struct {
			UIDMappings []struct {
				HostID uint32 `json:"hostID"`
			} `json:"uidMappings"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		h.t.Fatal(err)
	}
	ids, err := mount.Map(mount.IDs{First: config.Linux.UIDMappings[0].HostID, Size: spec.IDs})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = ids.Close() }()
	for _, d := range []string{"image", "root", "data/db"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			h.t.Fatal(err)
		}
		at := filepath.Join(dir, d)
		h.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	if err := mount.Image(u.Image, u.Manifest.Image, workloads.Identity{}, filepath.Join(dir, "image")); err != nil {
		h.t.Fatal(err)
	}
	if err := ids.Bind(filepath.Join(dir, "image"), filepath.Join(dir, "root"), true); err != nil {
		h.t.Fatal(err)
	}
	if err := ids.Bind(u.Data["db"], filepath.Join(dir, "data/db"), false); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	const unified = "/sys/fs/cgroup/unified" // see the shim: crun refuses such hosts
	if h.options.Runtime == "crun" {
		if err := unix.Mount("none", unified, "tmpfs", 0, ""); err == nil {
			h.t.Cleanup(func() { _ = unix.Unmount(unified, unix.MNT_DETACH) })
		}
	}
}

// bare starts that bundle by the runtime alone, and returns the processor time of it.
func (h *host) bare(name, own, dir string) float64 {
	h.t.Helper()
	b := h.t.(*testing.B)
	state := filepath.Join(dir, "state")
	before := usage(b, own)
	run := exec.Command(name, "--root", state, "run", "--detach", "--bundle", dir, "--pid-file", filepath.Join(dir, "pid"), "bare")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	run.Stdin, run.Stdout, run.Stderr = null, log, log
	if err := run.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		b.Fatalf("%s alone: %v: %s", name, err, said)
	}
	time.Sleep(1500 * time.Millisecond)
	taken := usage(b, own) - before + usage(b, groups+"bare")
	if out, err := exec.Command(name, "--root", state, "delete", "--force", "bare").CombinedOutput(); err != nil {
		b.Fatalf("%s: %v: %s", name, err, out)
	}
	return taken
}
