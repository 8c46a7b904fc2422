package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Confinement cannot be undone again, so each test lets a process of its own try: this
// binary, with one of these in the environment.
const (
	asWhat  = "CONFINE_TEST"
	forFile = "CONFINE_TEST_FILE" // a file that the process made before, as anybody
	forURL  = "CONFINE_TEST_URL"
)

func TestMain(m *testing.M) {
	if os.Getenv(asWhat) == "" {
		os.Exit(m.Run())
	}
	out, err := json.Marshal(try(os.Getenv(asWhat)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(out)
	os.Exit(0)
}

// report is what became of each attempt: "" if it worked.
type report struct {
	Problems []string
	Attempts map[string]string
}

func try(what string) report {
	r := report{Attempts: map[string]string{}}
	// A descriptor that was open before stays usable, a thread that ran before is held.
	open, err := os.Open(os.Getenv(forFile))
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
		return r
	}
	tasks := make(chan func() error)
	results := make(chan error)
	for range 4 { // threads that are there before
		go func() {
			for t := range tasks {
				results <- t()
			}
		}()
	}
	attempts := writerAttempts()
	switch what {
	case "nobody":
		attempts = unconfined()
	case "writer":
		if err := Writer(); err != nil {
			r.Problems = append(r.Problems, err.Error())
		}
	case "fetcher":
		for _, err := range Fetcher() {
			r.Problems = append(r.Problems, err.Error())
		}
		attempts = fetcherAttempts(open)
	}
	for name, attempt := range attempts {
		tasks <- attempt
		r.Attempts[name] = text(<-results)
	}
	return r
}

func text(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EPERM):
		return "EPERM"
	case errors.Is(err, unix.EACCES):
		return "EACCES"
	}
	return err.Error()
}

// call makes one system call with arguments that the kernel would otherwise refuse for
// another reason, or accept.
func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		a := append(args, 0, 0, 0, 0, 0, 0)
		_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 {
			return errno
		}
		return nil
	}
}

func socket(family, kind int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
}

// common are refused to both.
func common() map[string]func() error {
	bad := ^uintptr(0)
	return map[string]func() error{
		"ptrace":            call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1),
		"process_vm_readv":  call(unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0),
		"mount":             call(unix.SYS_MOUNT),
		"open_tree":         call(unix.SYS_OPEN_TREE, bad),
		"fsopen":            call(unix.SYS_FSOPEN),
		"pivot_root":        call(unix.SYS_PIVOT_ROOT),
		"chroot":            func() error { return unix.Chroot("/") },
		"unshare":           call(unix.SYS_UNSHARE, unix.CLONE_NEWUTS),
		"setns":             call(unix.SYS_SETNS, bad),
		"clone a namespace": call(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
		"bpf":               call(unix.SYS_BPF, 5),
		"perf_event_open":   call(unix.SYS_PERF_EVENT_OPEN),
		"userfaultfd":       call(unix.SYS_USERFAULTFD),
		"io_uring_setup":    call(unix.SYS_IO_URING_SETUP, 1),
		"keyctl":            call(unix.SYS_KEYCTL, 0, bad-2, 0),
		"open_by_handle_at": call(unix.SYS_OPEN_BY_HANDLE_AT, bad),
		"init_module":       call(unix.SYS_INIT_MODULE),
		"kexec_load":        call(unix.SYS_KEXEC_LOAD),
		"settimeofday":      call(unix.SYS_SETTIMEOFDAY),
		"netlink socket":    socket(unix.AF_NETLINK, unix.SOCK_RAW),
		"packet socket":     socket(unix.AF_PACKET, unix.SOCK_RAW),
		"vsock socket":      socket(unix.AF_VSOCK, unix.SOCK_STREAM),
		"alg socket":        socket(unix.AF_ALG, unix.SOCK_SEQPACKET),
	}
}

// openToAll are attempts that harm nobody when they succeed.
var openToAll = []string{"IPv4 socket", "IPv6 socket", "netlink socket", "resolve and dial", "a socket in a child"}

func unconfined() map[string]func() error {
	m, all := map[string]func() error{}, writerAttempts()
	for _, name := range openToAll {
		m[name] = all[name]
	}
	return m
}

func writerAttempts() map[string]func() error {
	m := common()
	m["IPv4 socket"] = socket(unix.AF_INET, unix.SOCK_STREAM)
	m["IPv6 socket"] = socket(unix.AF_INET6, unix.SOCK_DGRAM)
	m["resolve and dial"] = func() error {
		_, err := net.DialTimeout("tcp", strings.TrimPrefix(os.Getenv(forURL), "http://"), time.Second)
		return err
	}
	m["a socket in a child"] = func() error {
		// bash opens /dev/tcp/HOST/PORT itself; its message names the errno.
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(os.Getenv(forURL), "http://"))
		out, err := exec.Command("bash", "-c", "exec 3<>/dev/tcp/"+host+"/"+port).CombinedOutput()
		if strings.Contains(string(out), "not permitted") {
			return unix.EPERM
		}
		return err
	}
	m["ok: local socket"] = socket(unix.AF_UNIX, unix.SOCK_STREAM)
	m["ok: write a file"] = func() error { return os.WriteFile(os.Getenv(forFile)+".new", []byte("x"), 0o600) }
	m["ok: run a command"] = func() error { return exec.Command("true").Run() }
	return m
}

func fetcherAttempts(open *os.File) map[string]func() error {
	m := common()
	name := os.Getenv(forFile)
	for what, attempt := range map[string]func() error{
		"execve":         func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"run a command":  func() error { return exec.Command("/bin/true").Run() },
		"fork":           call(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"read elsewhere": func() error { _, err := os.ReadFile(name); return err },
		"read /proc":     func() error { _, err := os.ReadFile("/proc/self/environ"); return err },
		"list /":         func() error { _, err := os.ReadDir("/"); return err },
		"open to write":  func() error { _, err := os.OpenFile(name, os.O_WRONLY, 0); return err },
		"create":         func() error { return os.WriteFile(name+".new", nil, 0o600) },
		"create in /etc": func() error { return os.WriteFile("/etc/twinkeel-confine-test", nil, 0o600) },
		"mkdir":          func() error { return os.Mkdir(name+".d", 0o700) },
		"rename":         func() error { return os.Rename(name, name+".old") },
		"remove":         func() error { return unix.Unlink(name) },
		"link":           func() error { return os.Link(name, name+".link") },
		"symlink":        func() error { return os.Symlink("/", name+".sym") },
		"chmod":          func() error { return os.Chmod(name, 0o777) },
		"chown":          func() error { return os.Chown(name, 1, 1) },
		"truncate":       func() error { return os.Truncate(name, 0) },
		"truncate ours":  func() error { return open.Truncate(0) },
		"mknod":          func() error { return unix.Mknod(name+".null", unix.S_IFCHR, 0x103) },
		"setuid":         call(unix.SYS_SETUID, 0),
		"kill":           func() error { return unix.Kill(os.Getppid(), 0) },
		"raw socket":     socket(unix.AF_INET, unix.SOCK_RAW),
		"bind a port":    func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"local listener": func() error { _, err := net.Listen("unix", "@twinkeel-confine-test"); return err },
		"executable memory": func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			return err
		},
		"ok: read what was open": func() error { _, err := open.Read(make([]byte, 1)); return err },
		"ok: read /etc":          func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"ok: http": func() error {
			res, err := http.Get(os.Getenv(forURL))
			if err == nil {
				_ = res.Body.Close()
			}
			return err
		},
		"ok: new threads": func() error {
			done := make(chan struct{})
			for range 8 {
				go func() { time.Sleep(20 * time.Millisecond); done <- struct{}{} }()
			}
			for range 8 {
				<-done
			}
			return nil
		},
	} {
		m[what] = attempt
	}
	return m
}

// run lets a process try, and returns its report.
func run(t *testing.T, what string) report {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asWhat+"="+what, forFile+"="+file, forURL+"="+srv.URL, "GOMAXPROCS=4", "NO_PROXY=*")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return r
}

func (r report) judge(t *testing.T, except ...string) {
	t.Helper()
	for name, got := range r.Attempts {
		want := []string{"EPERM", "EACCES"}
		if strings.HasPrefix(name, "ok: ") {
			want = []string{""}
		}
		if !slices.Contains(want, got) && !slices.Contains(except, name) {
			t.Errorf("%s: got %q, want one of %q", name, got, want)
		}
	}
	if len(r.Attempts) < 20 {
		t.Errorf("got %d attempts", len(r.Attempts))
	}
}

func needFilter(t *testing.T) {
	if arch == 0 {
		t.Skip("no filter on this architecture")
	}
}

func TestTheWriterHasNoSocketButLocalOnes(t *testing.T) {
	needFilter(t)
	r := run(t, "writer")
	if len(r.Problems) > 0 {
		t.Fatalf("got problems %q", r.Problems)
	}
	r.judge(t)
}

// Landlock needs a binary without C, as the ones that are shipped. Elsewhere (the race
// detector) the test runs itself once more in such a binary.
func TestTheFetcherCanDoNothingButFetch(t *testing.T) {
	needFilter(t)
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == syscall.ENOTSUP {
		r := run(t, "fetcher")
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "cgo") {
			t.Errorf("got problems %q, want that cgo keeps Landlock off", r.Problems)
		}
		// The filter alone stops all but reading.
		r.judge(t, "read elsewhere", "read /proc", "list /")
		cmd := exec.Command("go", "test", "-count=1", "-run", "^"+t.Name()+"$", ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("without cgo: %v\n%s", err, out)
		}
		return
	}
	r := run(t, "fetcher")
	except := []string{}
	for _, p := range r.Problems {
		if !strings.Contains(p, "not offered by this kernel") {
			t.Fatalf("got problems %q", r.Problems)
		}
		if os.Getenv("CI") == "" {
			t.Log("without Landlock:", p)
		}
		except = []string{"read elsewhere", "read /proc", "list /"}
	}
	r.judge(t, except...)
}

// What is refused here must be possible without confinement, or the tests above show
// nothing.
func TestUnconfinedTheSameAttemptsAreNotAllRefused(t *testing.T) {
	r := run(t, "nobody")
	for _, name := range openToAll {
		if r.Attempts[name] != "" {
			t.Errorf("%s: got %q, want success", name, r.Attempts[name])
		}
	}
}
