package runner_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/probes"
)

// withProbes adds to a root what the probes need to be tried.
func withProbes(t *testing.T) func(root string) {
	return func(root string) {
		copyFile(t, program(t, "inside"), filepath.Join(root, "probe"), 0o755)
		copyFile(t, program(t, "inside"), filepath.Join(root, "suid"), 0o4755)
		if err := unix.Mknod(filepath.Join(root, "null-node"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
}

// bustle is a host on which files are opened all the time.
func bustle() (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			for _, path := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd"} {
				if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
					_ = unix.Close(fd)
				}
			}
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() { close(end); done.Wait() }
}

func TestLevelContainerLeavesTwoProbesOpenAtMost(t *testing.T) {
	eachRuntime(t, func(t *testing.T, h *host) {
		// Somebody on the host listens at a name without a file.
		l, err := net.Listen("unix", "@twinkeel-probe")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		defer bustle()()
		file, img := h.image("probes", withProbes(t))
		u := h.unit("1.0.0", file, img, "/probe")
		u.Manifest.Update.Restart = "never"
		u.Manifest.Limits.Log, u.Manifest.Limits.Tmp = 1<<20, 16<<20
		h.start(u)
		h.eventually("the end of the probes", func() bool { return !h.status().Running })
		h.eventually("the last answer", func() bool { return strings.Contains(h.said(), "agent-socket") })
		var out strings.Builder
		for line := range strings.Lines(h.said()) {
			_, rest, _ := strings.Cut(line, "Z ")
			out.WriteString(rest)
		}
		results, err := probes.Parse(out.String())
		if err != nil {
			t.Fatal(err)
		}
		open, err := probes.Container().Judge(results)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%d of %d probes are open: %v", len(open), len(results), open)
	})
}

func TestTheProbesSeeAnOpenMachine(t *testing.T) {
	runtimes(t)
	defer bustle()()
	// On the machine itself most are open: the probes can tell the difference.
	out, err := runProbes(program(t, "inside"))
	if err != nil {
		t.Fatal(err)
	}
	results, err := probes.Parse(out)
	if err != nil {
		t.Fatal(err)
	}
	open, err := probes.Container().Judge(results)
	if len(open) < 60 || err == nil {
		t.Errorf("got %d of %d open on the machine itself (%v), want at least 60", len(open), len(results), err)
	}
}

// runProbes tries the probes without any confinement but a process space of their own.
func runProbes(path string) (string, error) {
	c := exec.Command(path)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Setsid: true}
	out, err := c.Output()
	return string(out), err
}

func TestProgramsOfDebianRunUnderTheDefault(t *testing.T) {
	h := newHost(t, "")
	file, img := h.image("debian", debian(t))
	u := h.unit("1.0.0", file, img, "/bin/actor", "sleep")
	u.Manifest.Limits.Memory, u.Manifest.Limits.Pids, u.Manifest.Limits.CPU, u.Manifest.Limits.Files = 1<<30, 512, 4000, 1024
	u.Manifest.Limits.Tmp = 64 << 20
	u.Manifest.Data[0].Quota = 1 << 30
	h.start(u)
	for _, c := range []struct{ name, need, script, want string }{
		{"python", "/usr/bin/python3", `python3 -c 'import ssl, sqlite3, asyncio, multiprocessing as m
def f(x): return x * x
if __name__ == "__main__":
    sqlite3.connect("/data/x.db").execute("create table t (a)")
    ssl.create_default_context()
    asyncio.run(asyncio.sleep(0))
    with m.Pool(2) as p: print(sum(p.map(f, range(10))))'`, "285"},
		{"perl", "/usr/bin/perl", `perl -MSocket -MPOSIX -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; defined(my $p = fork) or die; if (!$p) { print B "hello\n"; exit } close B; print scalar <A>'`, "hello"},
		{"git", "/usr/bin/git", `export HOME=/data; cd /data && git init -q r && cd r && echo a >a && git add a && git -c user.name=a -c user.email=a@b commit -qm one && git log --oneline`, "one"},
		{"node", "/usr/bin/node", `node -e 'const http = require("http"); const s = http.createServer((q, r) => r.end("served")).listen(8081, "127.0.0.1", () => http.get("http://127.0.0.1:8081/", r => r.on("data", d => { console.log(String(d)); process.exit(0) })))'`, "served"},
		// It compiles the runtime, too, without a network.
		{"go", "", `export HOME=/data GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off GOTMPDIR=/data CGO_ENABLED=0 PATH=/usr/local/go/bin:$PATH; mkdir -p /data/h && cd /data/h && printf 'module example.com/h\ngo 1.20\n' >go.mod && printf 'package main\nfunc main() { println("hello") }\n' >main.go && go build -trimpath -o h . && ./h 2>&1`, "hello"},
		{"nginx", "/usr/sbin/nginx", `mkdir -p /data/n && printf 'pid /data/n/pid; error_log stderr; events {} http { access_log off; client_body_temp_path /data/n/b; proxy_temp_path /data/n/p; fastcgi_temp_path /data/n/f; uwsgi_temp_path /data/n/u; scgi_temp_path /data/n/s; server { listen 127.0.0.1:8082; location / { return 200 from-nginx; } } }' >/data/n/conf && nginx -c /data/n/conf && python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8082/").read())' && nginx -c /data/n/conf -s stop`, "from-nginx"},
		{"postgresql", "/usr/lib/postgresql/15/bin/postgres", `export PATH=/usr/lib/postgresql/15/bin:$PATH LC_ALL=C; initdb -D /data/pg -A trust -N >/data/pg.log 2>&1 && pg_ctl -D /data/pg -w -l /data/pg.log -o "-k /data -h ''" start >/dev/null && psql -h /data -d postgres -Atc 'select 6*7'; code=$?; pg_ctl -D /data/pg -m immediate stop >/dev/null; [ $code = 0 ] || cat /data/pg.log; exit $code`, "42"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.need != "" {
				_, err := os.Stat(c.need)
				needs.That(t, err == nil, c.need)
			}
			if out, code := h.exec("/bin/sh", "-c", c.script); code != 0 || !strings.Contains(out, c.want) {
				t.Errorf("got code %d and %q, want %q", code, out, c.want)
			}
		})
	}
}

// debian adds to a root what the programs need of this machine's Debian, without copies.
func debian(t *testing.T) func(root string) {
	return func(root string) {
		if err := os.Remove(filepath.Join(root, "bin/actor")); err != nil {
			t.Fatal(err)
		}
		for _, step := range [][]string{
			{"rmdir", root + "/bin"},
			{"mkdir", "-p", root + "/usr"},
		} {
			if b, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", step, err, b)
			}
		}
		for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
			if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
				t.Fatal(err)
			}
		}
		script := `cd / && programs="usr/bin/env usr/bin/sh usr/bin/dash usr/bin/cat usr/bin/mkdir usr/bin/python3 usr/bin/python3.11 usr/bin/perl usr/bin/git usr/bin/node
	usr/sbin/nginx usr/lib/postgresql/15/bin/postgres usr/lib/postgresql/15/bin/initdb usr/lib/postgresql/15/bin/pg_ctl usr/lib/postgresql/15/bin/psql usr/bin/psql"
for p in $programs usr/lib64 usr/lib/python3.11 usr/lib/x86_64-linux-gnu/perl-base usr/lib/x86_64-linux-gnu/perl usr/share/perl usr/share/git-core \
	usr/lib/postgresql/15/lib usr/share/postgresql usr/share/zoneinfo usr/lib/ssl \
	usr/share/nodejs/acorn usr/share/nodejs/acorn-walk usr/share/nodejs/cjs-module-lexer usr/share/nodejs/undici \
	$(ldd $(ls $programs usr/lib/postgresql/15/lib/*.so usr/lib/python3.11/lib-dynload/*.so 2>/dev/null) 2>/dev/null | sed -n 's,.*=> /,,; s, (0x.*,,p' | sort -u)
do
	case $p in lib/*) p=usr/$p ;; esac
	[ ! -e "$p" ] || { cp -a --parents -t "$1" "$p" && cp -a --parents -t "$1" "$(realpath "$p" | cut -c2-)"; } 2>/dev/null || :
done
cp "$2" "$1/usr/bin/actor"; printf 'app:x:1000:1000::/data:/bin/sh\n' >"$1/etc/passwd"`
		if b, err := exec.Command("sh", "-c", script, "sh", root, program(t, "actor")).CombinedOutput(); err != nil {
			t.Fatalf("copy: %v: %s", err, b)
		}
		toolchain(t, filepath.Join(root, "usr/local/go"))
	}
}

// toolchain copies what of the Go that runs this test is needed to build a program without
// imports: its tools, and the packages that every program has.
func toolchain(t *testing.T, to string) {
	t.Helper()
	script := `set -e; cd "$(go env GOROOT)"; mkdir -p "$1"
cp -a --parents -t "$1" bin/go VERSION go.env pkg/include src/go.mod src/vendor/modules.txt
for tool in asm compile link; do
	# Since Go 1.25 some tools are only built when they are asked for.
	made=$(go tool -n $tool) && mkdir -p "$1/pkg/tool/$(go env GOOS)_$(go env GOARCH)" && cp "$made" "$1/pkg/tool/$(go env GOOS)_$(go env GOARCH)/$tool"
done
for dir in $(go list -deps -f '{{.Dir}}' runtime); do
	cp -a --parents -t "$1" ".${dir#"$(go env GOROOT)"}"
done`
	c := exec.Command("sh", "-c", script, "sh", to)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("copy Go: %v: %s", err, b)
	}
}
