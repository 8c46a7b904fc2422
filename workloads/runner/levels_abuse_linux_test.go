package runner_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

func seconds(d time.Duration) release.Duration { return release.Duration(d) }

// attempts are how the abuses of package probes are tried, by their names, on the
// application u that runs. Those behind stubborn find it stopped.
var attempts = map[string]func(l *level, u workloads.Unit){
	"log": func(l *level, u workloads.Unit) {
		dir := filepath.Join(l.dir, "log", "web")
		l.patiently("the last line and a second file", func() bool {
			_, err := os.Stat(filepath.Join(dir, "output.1"))
			return err == nil && strings.Contains(l.said(), "not going")
		})
		var size int64
		for _, name := range []string{"output", "output.1"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				l.t.Fatal(err)
			}
			size += info.Size()
		}
		if size > u.Manifest.Limits.Log {
			l.t.Errorf("got %d bytes, want at most %d", size, u.Manifest.Limits.Log)
		}
	},
	"tmp": func(l *level, u workloads.Unit) {
		for dir, most := range map[string]int64{"/tmp": u.Manifest.Limits.Tmp / 2, "/run": u.Manifest.Limits.Tmp / 2, "/dev/shm": u.Manifest.Limits.Memory / 2} {
			l.filled(dir, most)
		}
	},
	"files": func(l *level, u workloads.Unit) {
		out, _ := l.exec("/bin/actor", "open-many")
		n := 0
		if _, err := fmt.Sscan(out, &n); err != nil || n > u.Manifest.Limits.Files || !strings.Contains(out, "too many open files") {
			l.t.Errorf("got %q, want no more than %d files", out, u.Manifest.Limits.Files)
		}
	},
	"hang": func(l *level, _ workloads.Unit) {
		if _, _, err := l.give(l.wait, "/bin/actor", "hang"); err == nil {
			l.t.Error("it ended by itself")
		}
		l.settled()
	},
	"fork-for-ever": func(l *level, _ workloads.Unit) {
		for range 2 { // the second one finds room again
			err := l.Healthy(l.t.Context(), "web")
			if err == nil || l.name != "sandbox" && !strings.Contains(err.Error(), "deadline") {
				l.t.Errorf("got %v, want that time is up", err)
			}
			l.settled()
		}
	},
	"link": func(l *level, _ workloads.Unit) {
		secret := l.secret("secret")
		if out, code := l.exec("/bin/actor", "links", "/data/out", secret); code != 0 {
			l.t.Fatalf("cannot make a link in the data: %s", out)
		}
		l.noneOf("/data/out", "/data/../../../../.."+secret)
	},
	"dots": func(l *level, _ workloads.Unit) {
		secret := l.secret("secret")
		l.noneOf(secret, "/proc/self/cwd/../../../.."+secret, "/proc/self/fd/7/../.."+secret, "/proc/self/fd/8"+secret,
			"/proc/1/root"+secret, "/proc/1/cwd/../../../.."+secret, "/proc/self/root/.."+secret)
	},
	"others": func(l *level, _ workloads.Unit) {
		theirs := l.secret("state/data/other/secret")
		l.noneOf(theirs, "/data/../other/secret", "/proc/1/root"+theirs, filepath.Join(l.dir, "state/app-ids.json"), filepath.Join(l.dir, "run/roles.json"),
			filepath.Join(l.dir, "log/other/output"))
	},
	"network": func(l *level, _ workloads.Unit) {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			l.t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		for _, to := range [][2]string{
			{"tcp", s.Addr().String()}, {"tcp", "169.254.169.254:80"}, {"tcp", "10.213.0.1:22"}, {"unix", "@twinkeel-probe"},
			{"unix", "/run/twinkeel/twinkeel.sock"}, {"unix", filepath.Join(l.dir, "run/other.1/shim.sock")},
		} {
			if out, code := l.exec("/bin/actor", "connect", to[0], to[1]); code == 0 {
				l.t.Errorf("%s: got %s, want nobody there", to, out)
			}
		}
	},
	"terminal": func(l *level, _ workloads.Unit) {
		// Nobody's yet, so that it could become the application's own.
		master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			l.t.Fatal(err)
		}
		defer func() { _ = master.Close() }()
		n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			l.t.Fatal(err)
		}
		defer func() { _ = terminal.Close() }()
		ctx, cancel := context.WithTimeout(l.t.Context(), patience)
		defer cancel()
		if code, err := l.Exec(ctx, "web", []string{"/bin/actor", "type"}, terminal, terminal, terminal); err != nil || code == 0 {
			l.t.Errorf("got code %d, %v, want that it is refused", code, err)
		}
		if n, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCINQ); err != nil || n != 0 {
			l.t.Errorf("got %d bytes typed, %v, want none", n, err)
		}
	},
	"processes": func(l *level, u workloads.Unit) {
		if !l.status().Running { // the one before has stopped it
			l.again()
			l.start(u)
		}
		out, code, err := l.give(patience, "/bin/actor", "fork-bomb", "end")
		n := 0
		if _, serr := fmt.Sscanf(out, "stopped after %d", &n); serr != nil && (l.name != "sandbox" || err == nil && code == 0) || n > u.Manifest.Limits.Pids {
			l.t.Errorf("got %q, %v, want that forks fail, and no more than %d processes", out, err, u.Manifest.Limits.Pids)
		}
	},
	"memory": func(l *level, _ workloads.Unit) {
		if out, code, err := l.give(patience, "/bin/actor", "eat-memory"); err == nil && code == 0 || errors.Is(err, context.DeadlineExceeded) {
			l.t.Errorf("got %q, %v, want its end", out, err)
		}
		l.settled()
	},
	"disk": func(l *level, u workloads.Unit) {
		// Where the file system does not limit it, the volume is watched, and the largest
		// file has the size of what may be written elsewhere.
		most := max(u.Manifest.Data[0].Quota, u.Manifest.Limits.Tmp)
		if l.name == "vm" {
			most = 16 << 20 // the least that a disk has
		}
		l.filled("/data", most)
	},
	"stubborn": func(l *level, _ workloads.Unit) {
		if err := l.Stop(l.t.Context(), "web"); err != nil {
			l.t.Error(err)
		}
		if st := l.status(); st.Running {
			l.t.Errorf("got %+v, want that nothing runs", st)
		}
	},
	"volume-link": func(l *level, u workloads.Unit) {
		target, link := filepath.Join(l.dir, "target"), filepath.Join(l.dir, "link")
		if err := errors.Join(os.Mkdir(target, 0o755), os.Symlink(target, link)); err != nil {
			l.t.Fatal(err)
		}
		u.Data = map[string]string{"db": link}
		if err := l.Start(l.t.Context(), u); err == nil {
			l.t.Error("got a volume that leads elsewhere")
		}
		if entries, err := os.ReadDir(target); len(entries) > 0 || err != nil {
			l.t.Errorf("where the link leads: got %v, %v, want it as it was", entries, err)
		}
	},
	"image": func(l *level, u workloads.Unit) {
		b, err := os.ReadFile(u.Image)
		if err != nil {
			l.t.Fatal(err)
		}
		b[u.Manifest.Image.Size-1] ^= 1
		u.Image = filepath.Join(l.dir, "changed.erofs")
		if err := os.WriteFile(u.Image, b, 0o644); err != nil {
			l.t.Fatal(err)
		}
		if err := l.Start(l.t.Context(), u); err == nil || !strings.Contains(err.Error(), "verity root") {
			l.t.Errorf("got %v, want an error about the root", err)
		}
	},
	"mount-points": func(l *level, u workloads.Unit) {
		dirs := []string{"proc", "tmp", "data"}
		if l.name == "vm" {
			dirs = dirs[2:] // each is a boot
		}
		for _, dir := range dirs {
			u.Image, u.Manifest.Image = l.image("links-"+dir, func(root string) {
				if err := errors.Join(os.Remove(filepath.Join(root, dir)), os.Symlink("/etc", filepath.Join(root, dir))); err != nil {
					l.t.Fatal(err)
				}
			})
			if err := l.Start(l.t.Context(), u); err == nil || !strings.Contains(err.Error(), "/"+dir) {
				l.t.Errorf("%s: got %v, want an error that names it", dir, err)
			}
		}
	},
}

// secret is a file of the host's that nobody hides but the isolation.
func (l *level) secret(name string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("of another"), 0o644)); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// noneOf checks that files cannot be read.
func (l *level) noneOf(paths ...string) {
	l.t.Helper()
	for _, p := range paths {
		if out, code := l.exec("/bin/actor", "read", p); code == 0 {
			l.t.Errorf("%s: got %q, want nothing", p, out)
		}
	}
}

// settled waits until the application runs, and nothing else of it but who asks.
func (l *level) settled() {
	l.t.Helper()
	last := ""
	defer func() {
		if l.t.Failed() {
			l.t.Logf("the last answer: %s", last)
		}
	}()
	l.patiently("nothing but the application", func() bool {
		out, code, err := l.give(patience, "/bin/actor", "processes")
		last = fmt.Sprintf("%q, %d, %v", out, code, err)
		return err == nil && strings.TrimSpace(out) == "2"
	})
}

// filled fills a directory and wants an end of it: no room, or the application's end.
func (l *level) filled(dir string, most int64) {
	l.t.Helper()
	out, _, err := l.give(patience, "/bin/actor", "fill", dir, "end")
	n := int64(0)
	if _, serr := fmt.Sscanf(out, "wrote %d", &n); serr != nil && (err == nil || l.name == "vm") || n > most {
		l.t.Errorf("%s: got %q, %v, want no room behind %d bytes", dir, out, err, most)
	}
}
