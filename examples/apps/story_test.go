package apps

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeel/twinkeel/workloads/oci"
)

// story is a publisher and a host that wants one application of it.
type story struct {
	t              *testing.T
	app            string // its name
	after          string // which one those that are built start after; "": none
	instance       string
	dir, bin, site string
	agent          *exec.Cmd
	watch          *trap // of the agent's log; nil: the test's log has it
}

func newStory(t *testing.T, app string) *story {
	dir, err := os.MkdirTemp("/var/tmp", "twinkeel-story-")
	if err != nil {
		t.Fatal(err)
	}
	// Another copy of this test, or a host's own agent, is not disturbed.
	instance := fmt.Sprintf("tkstory%d", os.Getpid())
	s := &story{t: t, app: app, instance: instance, dir: dir, bin: commands.dir, site: filepath.Join(dir, "site")}
	t.Cleanup(func() {
		s.killDaemon()
		if err := oci.Groups().Kill(context.Background(), "/"+instance); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, err := range []error{
		os.Chmod(dir, 0o711),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("none", "/run", "tmpfs", 0, "mode=755"),
		loopback(),
		os.WriteFile(filepath.Join(dir, "pass"), []byte("only for tests\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.server("init", s.site, "--spare", filepath.Join(dir, "spare"))
	web := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(s.site, "repository"))))
	t.Cleanup(web.Close)
	config := fmt.Sprintf(`server = "%[2]s"
channel = "stable"
compatible = "any"
state = "%[1]s/state"
root = "%[1]s/site/repository/metadata/1.root.json"
socket = "%[1]s/s"
[apps]
path = "%[1]s/apps"
instance = "%[3]s"
bridge = "tkstory0"
[[app]]
name = "%[4]s"
publisher = "acme"
`, dir, web.URL, instance, app)
	if err := os.WriteFile(filepath.Join(dir, "twinkeel.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s.server("app", "publisher", s.site, "acme", "--like", "stable")
	return s
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

// run runs a command, which has to end with a status, and returns what it said.
func (s *story) run(status int, name string, args ...string) string {
	s.t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "TWINKEEL_PASSPHRASE_FILE="+filepath.Join(s.dir, "pass"))
	out, err := c.CombinedOutput()
	if c.ProcessState == nil || c.ProcessState.ExitCode() != status {
		s.t.Fatalf("%s %s: got %v, want status %d\n%s", filepath.Base(name), strings.Join(args, " "), err, status, out)
	}
	return string(out)
}

func (s *story) server(args ...string) string {
	s.t.Helper()
	return s.run(0, filepath.Join(s.bin, "twinkeel-server"), args...)
}

func (s *story) twinkeel(status int, args ...string) string {
	s.t.Helper()
	return s.run(status, filepath.Join(s.bin, "twinkeel"), append([]string{"--config", filepath.Join(s.dir, "twinkeel.toml")}, args...)...)
}

// build makes an application of all forms of a container image, and returns its draft.
// More is put at the end of its app.toml.
func (s *story) build(kind string, version, format int, more ...string) string {
	s.t.Helper()
	return s.buildAs("notes", 8081, kind, version, format, more...)
}

// door is how clients get to an application, and its health check.
type door struct{ network, check string }

// published is a port of the host that leads to the application's own network.
func published(port int) door {
	return door{fmt.Sprintf("[network]\nmode = \"private\"\n[[network.publish]]\nname = \"http\"\nhost = %d\napp = 8080\n", port), ":8080/health"}
}

// handed is a socket at a port of the host that is handed over to the application.
func handed(port int) door {
	return door{fmt.Sprintf("[[network.sockets]]\nname = \"http\"\nlisten = \"127.0.0.1:%d\"\n", port), fmt.Sprintf(":%d/health", port)}
}

// buildAs is build under another name, behind a port of the host.
func (s *story) buildAs(name string, port int, kind string, version, format int, more ...string) string {
	s.t.Helper()
	return s.buildBehind(published(port), name, kind, version, format, more...)
}

func (s *story) buildBehind(d door, name, kind string, version, format int, more ...string) string {
	s.t.Helper()
	after := ""
	if s.after != "" {
		after = fmt.Sprintf("after = [%q]", s.after)
	}
	text := fmt.Sprintf(`publisher = "acme"
name = %[4]q
version = "%[1]d.0"
%[3]s
%[5]s
[health]
http = %[6]q
start = "1s"
interval = "100ms"
probation = "300ms"
[update]
dataFormat = %[2]d
dataReads = %[2]d
`, version, format, after, name, d.network, d.check) + strings.Join(more, "\n")
	spec := filepath.Join(s.dir, "app.toml")
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(s.bin, "notes"))
	if err != nil {
		s.t.Fatal(err)
	}
	var draft string
	var first map[string]any
	for _, from := range containers(s.t, program, kind) {
		out := filepath.Join(s.t.TempDir(), "build")
		var r map[string]any
		if err := json.Unmarshal([]byte(s.server("app", "build", "--from", from, "--manifest", spec, "-o", out, "--json")), &r); err != nil {
			s.t.Fatal(err)
		}
		if first == nil {
			first, draft = r, filepath.Join(out, fmt.Sprintf("%s-%d.0.json", name, version))
		}
		if r["digest"] == nil || r["digest"] != first["digest"] {
			s.t.Errorf("%s: got digest %v, want %v", from, r["digest"], first["digest"])
		}
	}
	return draft
}

// daemon starts the agent.
func (s *story) daemon() {
	s.t.Helper()
	s.agent = exec.Command(filepath.Join(s.bin, "twinkeeld"), "--config", filepath.Join(s.dir, "twinkeel.toml"))
	s.agent.Stderr = s.t.Output()
	if s.watch != nil {
		s.agent.Stderr = s.watch
	}
	s.agent.WaitDelay = time.Second // applications' shims hold its output
	if err := s.agent.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the agent's socket", func() bool { _, err := os.Stat(filepath.Join(s.dir, "s")); return err == nil })
}

func (s *story) killDaemon() {
	if s.agent == nil {
		return
	}
	_ = s.agent.Process.Kill()
	_ = s.agent.Wait()
	s.agent = nil
	_ = os.Remove(filepath.Join(s.dir, "s"))
}

// get is what the application answers; empty: it does not.
func (s *story) get() string { return s.getFrom(8081) }

func (s *story) getFrom(port int) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.ask(r)
}

func (s *story) ask(r *http.Request) string {
	r.Close = true
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

func (s *story) post(note string) {
	s.t.Helper()
	s.postTo(8081, note)
}

func (s *story) postTo(port int, note string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", port), strings.NewReader(note))
	if err != nil {
		s.t.Fatal(err)
	}
	s.ask(r)
	s.contains(s.getFrom(port), note)
}

// wants waits for a version with its notes.
func (s *story) wants(version string, notes ...string) {
	s.t.Helper()
	s.eventually("version "+version+" with its notes", func() bool {
		got := strings.Split(strings.TrimSpace(s.get()), "\n")
		return len(got) == len(notes)+2 && got[0] == "version "+version && strings.Join(got[2:], "\n") == strings.Join(notes, "\n")
	})
}

// follows reads an application's output, with what comes later, until a line is in it.
func (s *story) follows(want string) {
	s.t.Helper()
	c := exec.Command(filepath.Join(s.bin, "twinkeel"), "--config", filepath.Join(s.dir, "twinkeel.toml"), "app", "logs", "notes", "-n", "1", "-f")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	s.contains(lines.Text(), want)
	s.twinkeel(0, "app", "restart", "notes")
	lines.Scan()
	s.contains(lines.Text(), want)
	_ = c.Process.Signal(os.Interrupt)
	if err := c.Wait(); err != nil {
		s.t.Errorf("app logs -f: %v", err)
	}
}

// live is the content of the live generation of the data.
func (s *story) live() []byte {
	s.t.Helper()
	return s.content(s.generation(s.liveGeneration()))
}

// content is that of a generation.
func (s *story) content(generation string) []byte {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(generation, "data/*"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("%s: got files %v, %v", generation, files, err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		all = append(append(all, filepath.Base(f)+"\n"...), b...)
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}

func (s *story) contains(got, want string) {
	s.t.Helper()
	if !strings.Contains(got, want) {
		s.t.Errorf("got %q, want %q in it", got, want)
	}
}

func (s *story) eventually(what string, ok func() bool) {
	s.t.Helper()
	for range 600 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("never came about: %s\n%s", what, s.twinkeel(0, "app", "status"))
}
