package apps

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twinkeel/twinkeel/workloads/oci"
)

// journey is an update whose every step is cut, and which is then tried again.
type journey struct {
	app    string
	to     string // version
	kind   string // of that version: the first thing that it answers
	stays  bool   // on the way back, the version before it runs
	before string // kind of that
	notes  string // that it has, whichever version runs
	// shared says that its data is not versioned, and so in no generation.
	shared bool
	// sample is the step at which a sample kills each of the victims once; "": one at each.
	sample string
}

// victims are what is killed with SIGKILL, as soon as a step has begun.
var victims = []string{
	"agent",
	"shim",     // the first one that there is of the application from then on
	"both",     // all shims of the application, and the agent
	"runtime",  // the next one that is called, at work
	"runtimes", // each one that is called until the update has ended
}

// strike is one kill.
type strike struct {
	journey
	step   string
	nth    int // time that this step begins, from 1
	victim string
	wait   time.Duration // after the step began; of a runtime, after it was called
}

func (k strike) String() string {
	return fmt.Sprintf("%s %s: %s %d: %s after %s", k.app, k.to, k.step, k.nth, k.victim, k.wait)
}

// kills kills each of the victims at each step of updates, at three moments; a sample of them,
// each step once, if not TWINKEEL_LONG is set. The host runs version 1 of notes with two notes.
func (s *story) kills() {
	s.t.Helper()
	s.mortal()
	s.watch = &trap{}
	s.killDaemon()
	s.daemon()
	s.server("app", "publish", s.site, s.buildAs("board", 8082, "1", 1, 1), "--channel", "stable")
	s.twinkeel(0, "app", "update", "board")
	list := []journey{
		{app: "notes", to: "2.0", kind: "2", before: "1", notes: "buy milk\ncall Ada"},
		{app: "notes", to: "3.0", kind: "broken", stays: true, before: "1", notes: "buy milk\ncall Ada"},
	}
	long := os.Getenv("TWINKEEL_LONG") != ""
	if long {
		list = append(list, s.twin("twin", published(8083), "parallel"))
	}
	sock := s.twin("sock", handed(8084), "socket")
	sock.sample = "switch"
	list = append(list, sock)
	app := s.app
	defer func() { s.app = app }()
	n := 0
	for _, j := range list {
		steps := s.steps(j)
		s.t.Logf("%s %s: %s", j.app, j.to, strings.Join(steps, ", "))
		for i, step := range steps {
			nth := 1
			for _, earlier := range steps[:i] {
				if earlier == step {
					nth++
				}
			}
			back := slices.Contains(steps[:i+1], "mark reverting")
			switch {
			case long:
				for _, v := range victims {
					for _, wait := range []time.Duration{0, 4 * time.Millisecond, 15 * time.Millisecond} {
						s.kill(strike{j, step, nth, v, wait})
					}
				}
			case j.sample != "":
				for i, v := range victims {
					if step == j.sample {
						s.kill(strike{j, step, nth, v, time.Duration(i%3) * 4 * time.Millisecond})
					}
				}
			case j.stays == back: // the way there is the same
				s.kill(strike{j, step, nth, victims[n%len(victims)], time.Duration(n%3) * 4 * time.Millisecond})
				n++
			}
		}
	}
}

// twin is an application whose versions are tried beside each other.
func (s *story) twin(name string, d door, strategy string) journey {
	s.t.Helper()
	beside := fmt.Sprintf("strategy = %q\n[[data]]\nname = \"data\"\npath = \"/data\"\nclass = \"shared\"\n", strategy)
	for version := 1; version <= 2; version++ {
		s.server("app", "publish", s.site, s.buildBehind(d, name, strconv.Itoa(version+3), version, 1, beside), "--channel", "stable")
	}
	s.twinkeel(0, "app", "hold", name) // lest the agent goes on to version 2 by itself
	s.twinkeel(0, "app", "update", name, "1.0", "--force")
	s.contains(s.twinkeel(0, "app", "status", name), strategy)
	s.postTo(ports[name], "feed the cat")
	return journey{app: name, to: "2.0", kind: "5", before: "4", notes: "feed the cat", shared: true}
}

// steps are those of a journey, by the journal's own names.
func (s *story) steps(j journey) []string {
	s.t.Helper()
	s.watch.set("", 0)
	s.forgetImages()
	status := 0
	if j.stays {
		status = 6
	}
	s.twinkeel(status, "app", "update", j.app, j.to, "--force")
	steps := s.watch.list()
	if !j.stays {
		s.twinkeel(0, "app", "rollback", j.app, "--data=restore")
	}
	return steps
}

// kill plays one strike. Whoever comes next makes the old version or the new one of it,
// with the data that belongs to it, and no other application notices anything.
func (s *story) kill(k strike) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s: what ran before", k), func() bool { return s.answers(k.app) != "" })
	began := time.Now()
	board, beside := s.answer(8082), s.processes("board")
	s.app = k.app
	old := s.generation(s.liveGeneration())
	var data []byte
	if !k.shared {
		data = s.content(old)
	}
	s.forgetImages()
	seen := s.watch.set(k.step, k.nth)
	var out bytes.Buffer
	update := exec.Command(filepath.Join(s.bin, "twinkeel"), "--config", filepath.Join(s.dir, "twinkeel.toml"), "app", "update", k.app, k.to, "--force")
	update.Stdout, update.Stderr = &out, &out
	if err := update.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = update.Wait(); close(ended) }() // however it ended
	select {
	case <-seen:
	case <-time.After(time.Minute):
		s.t.Fatalf("%s: the agent never came to it", k)
	}
	hit := s.hit(k, ended)
	<-ended
	status := update.ProcessState.ExitCode()
	_ = os.Remove(s.fate("strikes"))
	_ = os.Remove(s.fate("strike"))
	if s.agent == nil {
		s.daemon()
	}
	s.eventually(fmt.Sprintf("%s: an end of it", k), func() bool {
		return !strings.Contains(s.twinkeel(0, "app", "status"), "transaction") && s.answers(k.app) != ""
	})
	said := strings.SplitN(strings.TrimSpace(s.answers(k.app)), "\n", 3)
	now := strings.TrimPrefix(said[0], "version ")
	s.t.Logf("%s: hit %t, status %d, %s runs after %s; %s", k, hit, status, now, time.Since(began).Round(time.Millisecond), lastLine(out.String()))
	if now != k.before && (now != k.kind || k.stays) {
		s.t.Errorf("%s: version %s runs", k, now)
	}
	if len(said) != 3 || said[2] != k.notes {
		s.t.Errorf("%s: got %q, want notes %q", k, said, k.notes)
	}
	if !k.shared {
		if got := s.content(old); !bytes.Equal(got, data) {
			s.t.Errorf("%s: data of before: got %q, want %q", k, got, data)
		}
		if live := s.generation(s.liveGeneration()); (live == old) != (now == k.before) {
			s.t.Errorf("%s: version %s runs on %s; the version before had %s", k, now, live, old)
		}
	}
	s.told(k, status, now, out.String())
	if got, pids := s.answer(8082), s.processes("board"); got != board || !slices.Equal(pids, beside) {
		s.t.Errorf("%s: board: got processes %v that answer %q, want %v and %q", k, pids, got, beside, board)
	}
	if now == k.kind {
		s.twinkeel(0, "app", "rollback", k.app, "--data=restore")
	}
	if s.t.Failed() {
		s.t.Fatalf("%s: the agent's log:\n%s\n%s", k, s.watch.tail(), out.String())
	}
}

// forgetImages takes away the images of all that does not run, so that an update begins with
// fetching one.
func (s *story) forgetImages() {
	s.t.Helper()
	orders, _ := filepath.Glob("/run/twinkeel/apps/*/order.json")
	var used []byte
	for _, o := range orders {
		b, err := os.ReadFile(o)
		if err != nil {
			s.t.Fatal(err)
		}
		used = append(used, b...)
	}
	images, _ := filepath.Glob(filepath.Join(s.dir, "apps/images/*"))
	for _, image := range images {
		if !bytes.Contains(used, []byte(image)) {
			if err := os.RemoveAll(image); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// told is about what an operator is told of an update that did not end with the new version,
// by the command and by the history: what was killed, if the host came back for that.
func (s *story) told(k strike, status int, now, out string) {
	s.t.Helper()
	ofAgent := k.victim == "agent" || k.victim == "both"
	switch {
	case ofAgent && status != 0 && !strings.Contains(out, "the daemon ended"):
		s.t.Errorf("%s: got status %d and %q, want that the daemon ended", k, status, out)
	case ofAgent || k.stays:
	case (status == 0) != (now == k.kind):
		s.t.Errorf("%s: got status %d although %s runs", k, status, now)
	case status == 0:
	case !strings.Contains(out, "killed") && !strings.Contains(out, "shim"):
		s.t.Errorf("%s: got %q, want what was killed", k, out)
	case !strings.Contains(s.twinkeel(0, "history"), "killed") && !strings.Contains(s.twinkeel(0, "history"), "shim"):
		s.t.Errorf("%s: history: got %q, want what was killed", k, s.twinkeel(0, "history"))
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// ports are those at which the applications answer.
var ports = map[string]int{"notes": 8081, "board": 8082, "twin": 8083, "sock": 8084}

// answers is what an application says of itself and its data.
func (s *story) answers(app string) string { return s.getFrom(ports[app]) }

func (s *story) answer(port int) string {
	s.t.Helper()
	got := s.getFrom(port)
	if got == "" {
		s.t.Fatalf("port %d: got no answer", port)
	}
	return got
}

// hit kills the victim, and reports whether there was one.
func (s *story) hit(k strike, ended <-chan struct{}) bool {
	s.t.Helper()
	if k.victim == "runtime" || k.victim == "runtimes" {
		file := s.fate(map[string]string{"runtime": "strike", "runtimes": "strikes"}[k.victim])
		if err := os.WriteFile(file, fmt.Appendf(nil, "%.3f\n", k.wait.Seconds()), 0o600); err != nil {
			s.t.Fatal(err)
		}
		_ = os.Remove(s.fate("struck"))
		<-ended
		_, err := os.Stat(s.fate("struck"))
		return err == nil
	}
	time.Sleep(k.wait)
	switch k.victim {
	case "agent":
		s.killDaemon()
	case "both":
		s.killShims(k.app)
		s.killDaemon()
	case "shim":
		for !s.killShims(k.app) {
			select {
			case <-ended:
				return false
			case <-time.After(time.Millisecond):
			}
		}
	}
	return true
}

// killShims kills every shim of an application, and reports whether there was one.
func (s *story) killShims(app string) (any bool) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		b, err := os.ReadFile(l)
		words := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if err != nil || words[0] != filepath.Join(s.bin, "twinkeel-shim") || !strings.HasPrefix(filepath.Base(words[len(words)-1]), app+".") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(l, "/")[2]); err == nil {
			any = syscall.Kill(pid, syscall.SIGKILL) == nil || any
		}
	}
	return any
}

// processes are those of an application and of its shim.
func (s *story) processes(app string) (pids []int) {
	s.t.Helper()
	dirs, _ := filepath.Glob("/run/twinkeel/apps/" + app + ".*")
	for _, d := range dirs {
		for _, group := range []string{"", ".shim"} {
			pids = append(pids, oci.Groups().Members("/"+s.instance+"/"+filepath.Base(d)+group)...)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// fate is a file by which it is decided what becomes of a runtime.
func (s *story) fate(name string) string { return filepath.Join(s.dir, name) }

// mortal has the host call its runtime by way of a script, which kills it when it has run
// for a moment if there is a file that says so: one of them, or each.
func (s *story) mortal() {
	s.t.Helper()
	real, err := exec.LookPath("crun")
	if err != nil {
		real, err = exec.LookPath("runc")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
[ "$1" = --version ] && exec %[1]s "$@"
wait=
if [ -e %[2]s/strikes ]; then
	read -r wait <%[2]s/strikes
elif mv %[2]s/strike %[2]s/striking 2>/dev/null; then
	read -r wait <%[2]s/striking
fi
[ "$wait" ] || exec %[1]s "$@"
%[1]s "$@" &
[ "$wait" = 0.000 ] || sleep "$wait"
kill -9 $! && echo "$@" >>%[2]s/struck
kill -9 $$
`, real, s.dir)
	if err := os.WriteFile(s.fate("runtime"), []byte(script), 0o755); err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.dir, "twinkeel.toml")
	b, err := os.ReadFile(file)
	if err == nil {
		b = bytes.Replace(b, []byte("[apps]\n"), fmt.Appendf(nil, "[apps]\nruntime = %q\n", s.fate("runtime")), 1)
		for _, app := range []string{"board", "twin", "sock"} {
			b = fmt.Appendf(b, "[[app]]\nname = %q\npublisher = \"acme\"\n", app)
		}
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
