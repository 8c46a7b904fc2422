package runner_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

func TestAForkBombStopsAtItsLimit(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("fork-bomb"))
		h.eventually("the bomb's end", func() bool { return strings.Contains(h.said(), "stopped after") })
	})
}

func TestAnApplicationThatEatsMemoryIsKilledAlone(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		u := h.actor("eat-memory")
		h.start(u)
		h.eventually("three ends", func() bool { st := h.status(); return st.Restarts >= 2 && st.Looping })
		contains(t, h.status().Exit, "killed")
	})
}

func TestOutputWithoutEndFillsNoMoreThanItsLimit(t *testing.T) {
	h := newHost(t, "")
	h.start(h.actor("flood"))
	log := filepath.Join(h.dir, "log", "web")
	h.eventually("a second file", func() bool { _, err := os.Stat(filepath.Join(log, "output.1")); return err == nil })
	time.Sleep(200 * time.Millisecond)
	var size int64
	for _, name := range []string{"output", "output.1"} {
		info, err := os.Stat(filepath.Join(log, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err == nil {
			size += info.Size()
		}
	}
	if size > 64<<10 {
		t.Errorf("log: got %d bytes, want at most %d", size, 64<<10)
	}
}

func TestWhatIsFilledHasALimit(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		for _, dir := range []string{"/tmp", "/run", "/dev/shm", "/data"} {
			u := h.actor("fill", dir)
			h.start(u)
			h.eventually("the end of filling "+dir, func() bool { return strings.Contains(h.said(), "wrote") })
			if err := h.Stop(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(h.dir, "log")); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOpenFilesHaveALimit(t *testing.T) {
	h := newHost(t, "")
	h.start(h.actor("sleep"))
	if out, code := h.exec("/bin/actor", "open-many"); code != 0 || !strings.Contains(out, "too many open files") {
		t.Errorf("got code %d and %q, want it to stop at 256 files", code, out)
	}
}

func TestACommandInTheContainerIsConfinedAsTheApplicationIs(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		h.start(h.actor("sleep"))
		out, _ := h.exec("/bin/actor", "read", "/proc/self/status")
		for _, want := range []string{"Uid:\t1000\t1000\t1000\t1000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			contains(t, out, want)
		}
		// Nothing of the runtime's leads out: not its working directory, no descriptor.
		for _, leak := range []string{"/proc/self/cwd/../../../../etc/hostname", "/proc/self/fd/7/../../etc/hostname", "/proc/self/fd/8/etc/hostname", "/proc/1/root/../../etc/hostname"} {
			if out, code := h.exec("/bin/actor", "read", leak); code == 0 {
				t.Errorf("%s: got %q, want nothing", leak, out)
			}
		}
	})
}

func TestALinkOutOfTheDataLeadsNowhere(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		secret := filepath.Join(h.dir, "secret")
		if err := os.WriteFile(secret, []byte("of another"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.start(h.actor("sleep"))
		if _, code := h.exec("/bin/actor", "links", "/data/out", secret); code != 0 {
			t.Fatal("cannot make a link in the data")
		}
		if out, code := h.exec("/bin/actor", "read", "/data/out"); code == 0 {
			t.Errorf("through a link: got %q", out)
		}
		if out, code := h.exec("/bin/actor", "read", "/data/../../../../.."+secret); code == 0 {
			t.Errorf("through dots: got %q", out)
		}
		// What the application writes belongs to its own id on disk, and never to setuid root.
		if _, code := h.exec("/bin/actor", "write", "/data/mine", "x"); code != 0 {
			t.Error("cannot write its own data")
		}
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(h.dir, "state/data/web/mine"), &s); err != nil || s.Uid != 1000 {
			t.Errorf("on disk: got owner %d, %v, want 1000", s.Uid, err)
		}
	})
}

func TestAVolumeThatIsALinkIsRefused(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	link := filepath.Join(h.dir, "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	u.Data = map[string]string{"db": link}
	if err := h.Start(t.Context(), u); err == nil {
		t.Error("got a volume that leads to /etc")
	}
}

func TestAnImageWhoseMountPointsAreLinksIsRefused(t *testing.T) {
	h := newHost(t, "")
	for _, dir := range []string{"proc", "data", "tmp"} {
		file, img := h.image("links-"+dir, func(root string) {
			if err := errors.Join(os.Remove(filepath.Join(root, dir)), os.Symlink("/etc", filepath.Join(root, dir))); err != nil {
				t.Fatal(err)
			}
		})
		if err := h.Start(t.Context(), h.unit("1.0.0", file, img, "/bin/actor", "sleep")); err == nil || !strings.Contains(err.Error(), "/"+dir) {
			t.Errorf("%s: got %v, want an error that names it", dir, err)
		}
	}
}

func TestAnImageThatIsNotTheManifestsIsRefused(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	f, err := os.OpenFile(u.Image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1}, u.Manifest.Image.Size-1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context(), u); err == nil || !strings.Contains(err.Error(), "verity root") {
		t.Errorf("got %v, want an error about the root", err)
	}
}

func TestWhatIsNotGrantedOrNotHereIsRefused(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("sleep")
	u.Manifest.Permissions = []release.AppPermission{{Name: "proc-full"}}
	if err := h.Start(t.Context(), u); err == nil || !strings.Contains(err.Error(), "not granted") {
		t.Errorf("permission: got %v", err)
	}
	u.Manifest.Permissions = nil
	h.options.Sandbox = "/nowhere/runsc"
	h.open()
	for _, level := range []string{"sandbox", "vm"} {
		u.Manifest.Isolation.Level = level
		if err := h.Start(t.Context(), u); !errors.Is(err, workloads.ErrMissing) {
			t.Errorf("level %s: got %v, want that the host lacks it", level, err)
		}
		// It is known without a start.
		if _, err := h.Ready(t.Context(), u.Manifest); !errors.Is(err, workloads.ErrMissing) || !strings.Contains(err.Error(), "level "+level+", which is never lowered") {
			t.Errorf("level %s: ready: got %v, want that the host lacks it", level, err)
		}
	}
	u.Manifest.Isolation.Level = "container"
	if _, err := h.Ready(t.Context(), u.Manifest); err != nil {
		t.Errorf("ready: %v", err)
	}
	t.Setenv("PATH", filepath.Join(h.dir, "empty"))
	if _, err := h.Ready(t.Context(), u.Manifest); !errors.Is(err, workloads.ErrMissing) || !strings.Contains(err.Error(), "crun: not found in "+h.dir) {
		t.Errorf("without a runtime: got %v, want where it was looked for", err)
	}
	if st := h.status(); st.Running {
		t.Errorf("got %+v, want that nothing runs", st)
	}
}

// A version is not given up for one that could not be started.
func TestWhatTheHostHasNotNowIsKnownWithoutAStart(t *testing.T) {
	h := newHost(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:8090")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	there := filepath.Join(h.dir, "media")
	if err := os.Mkdir(there, 0o755); err != nil {
		t.Fatal(err)
	}
	old := h.actor("sleep")
	old.Manifest.Network.Sockets = []release.AppSocket{{Name: "http", Listen: "127.0.0.1:8091"}}
	h.start(old)
	for what, c := range map[string]struct {
		change func(*release.AppManifest)
		want   string // in the error; "": it could be started
	}{
		"nothing":             {func(*release.AppManifest) {}, ""},
		"a device":            {func(m *release.AppManifest) { m.Permissions = permission("device", "/dev/tkunplugged:rw") }, "/dev/tkunplugged"},
		"a directory":         {func(m *release.AppManifest) { m.Permissions = permission("host-path", there+"/none") }, "media/none"},
		"one that is there":   {func(m *release.AppManifest) { m.Permissions = permission("host-path", there+":rw") }, ""},
		"another's socket":    {func(m *release.AppManifest) { m.Network.Sockets[0].Listen = "127.0.0.1:8090" }, "socket http"},
		"a foreign address":   {func(m *release.AppManifest) { m.Network.Sockets[0].Listen = "192.0.2.1:80" }, "socket http"},
		"one more of its own": {func(m *release.AppManifest) { m.Network.Sockets[0].Listen = "127.0.0.1:8092" }, ""},
		"of no use to anyone": {func(m *release.AppManifest) { m.Permissions = permission("capability", "SYS_ADMIN") }, "want one of"},
	} {
		u := old
		m := *old.Manifest
		m.Network.Sockets = slices.Clone(m.Network.Sockets)
		u.Manifest = &m
		c.change(&m)
		err := h.Free(t.Context(), &m, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", what, err, c.want)
		}
		if c.want == "" || what == "of no use to anyone" {
			continue
		}
		// A start says the same, of what it would have to be refused for.
		m.Name, u.Grants = "other", m.Permissions
		if what != "another's socket" && what != "a foreign address" {
			m.Network.Sockets = nil
		}
		if start := h.Start(t.Context(), u); !errors.Is(err, workloads.ErrMissing) || !errors.Is(start, workloads.ErrMissing) {
			t.Errorf("%s: got %v without a start and %v with one, want that the host lacks it", what, err, start)
		}
	}
	h.options.Network = netip.MustParsePrefix("10.213.0.0/31")
	h.open()
	u := h.server("2", "stop-start")
	if err := h.Free(t.Context(), u.Manifest, nil); !errors.Is(err, workloads.ErrMissing) || !strings.Contains(err.Error(), "no free address") {
		t.Errorf("a full network: got %v", err)
	}
}

func permission(name, value string) []release.AppPermission {
	return []release.AppPermission{{Name: name, Value: value}}
}

func TestAHealthCommandThatHangsEndsInTime(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		u := h.actor("sleep")
		u.Manifest.Health.Exec = []string{"/bin/actor", "hang"}
		u.Manifest.Health.Timeout = release.Duration(300 * time.Millisecond)
		h.start(u)
		if err := h.Healthy(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("got %v, want that time is up", err)
		}
		h.eventually("the command's end", func() bool {
			out, _ := h.exec("/bin/actor", "processes")
			return strings.TrimSpace(out) == "2" // the application and who asks
		})
	})
}

func TestAHealthCommandThatForksForEverEndsWithAllItStarted(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		u := h.actor("sleep")
		u.Manifest.Health.Exec = []string{"/bin/actor", "fork-for-ever"}
		u.Manifest.Health.Timeout = release.Duration(500 * time.Millisecond)
		h.start(u)
		for range 2 { // the second one finds room again
			if err := h.Healthy(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "deadline") {
				t.Errorf("got %v, want that time is up", err)
			}
		}
		h.eventually("the end of all it started", func() bool {
			var out strings.Builder
			_, err := h.Exec(t.Context(), "web", []string{"/bin/actor", "processes"}, nil, &out, &out)
			return err == nil && strings.TrimSpace(out.String()) == "2" // the application and who asks
		})
		if st := h.status(); !st.Running || st.Restarts != 0 {
			t.Errorf("got %+v, want the application untouched", st)
		}
	})
}

func TestARuntimeThatDisappearsLeavesApplicationsRunningAndStoppable(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		path, err := exec.LookPath(h.options.Runtime)
		if err != nil {
			t.Fatal(err)
		}
		h.options.Runtime = filepath.Join(h.dir, filepath.Base(path))
		copyFile(t, path, h.options.Runtime, 0o755)
		h.open()
		u := h.actor("sleep")
		other := h.actor("sleep")
		other.Manifest.Name = "other"
		h.start(u)
		h.start(other)
		if err := os.Remove(h.options.Runtime); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Exec(t.Context(), "web", []string{"/bin/actor", "processes"}, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("exec: got %v, want that the runtime is gone", err)
		}
		if err := h.Stop(t.Context(), "web"); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := h.Start(t.Context(), u); !errors.Is(err, workloads.ErrMissing) {
			t.Errorf("start: got %v, want that the host lacks it", err)
		}
		if st, err := h.Status(t.Context(), "other"); err != nil || !st.Running || st.Restarts != 0 {
			t.Errorf("the other: got %+v, %v, want it untouched", st, err)
		}
	})
}

func TestAStubbornApplicationIsKilledAfterItsGrace(t *testing.T) {
	h := newHost(t, "")
	u := h.actor("stubborn")
	u.Manifest.Run.Grace = release.Duration(100 * time.Millisecond)
	h.start(u)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Stop(ctx, "web"); err != nil {
		t.Error(err)
	}
}

// crowd gives an application's data a small disk of its own, without quotas.
func (h *host) crowd(options string) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "state", "data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, options); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestAnApplicationThatFillsItsDiskIsStoppedAndHurtsNoOther(t *testing.T) {
	for what, c := range map[string]struct {
		disk  string
		quota int64
		want  string
	}{
		"more than its quota":        {"size=64m", 1 << 20, "its quota is"},
		"a disk less than its quota": {"size=20m", 30 << 20, "stay free"},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t, "")
			h.crowd(c.disk)
			other := h.actor("sleep")
			other.Manifest.Name, other.Manifest.Data = "other", nil
			h.start(other)
			u := h.actor("fill", "/data")
			u.Manifest.Data[0].Quota = c.quota
			h.start(u)
			if st := h.status(); st.Quota != "watched" {
				t.Errorf("got %+v, want that its quota is watched", st)
			}
			// For good: started again, it would write on.
			h.eventually("its end", func() bool { st := h.status(); return !st.Running && st.Looping })
			contains(t, h.status().Exit, c.want)
			if st, err := h.Status(t.Context(), "other"); err != nil || !st.Running || st.Restarts != 0 {
				t.Errorf("the other: got %+v, %v, want it untouched", st, err)
			}
		})
	}
}
