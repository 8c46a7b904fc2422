package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/probes"
	"github.com/twinkeel/twinkeel/workloads"
	"github.com/twinkeel/twinkeel/workloads/oci"
)

// level is a host on which applications run at an isolation level.
type level struct {
	*host
	name  string
	wait  time.Duration // for a command that hangs
	other workloads.Unit
}

// eachLevel runs a test on every isolation level. Nothing of the host's changes by it.
func eachLevel(t *testing.T, test func(*testing.T, *level)) {
	makes := map[string]func(*testing.T) *host{
		"container": func(t *testing.T) *host { return newHost(t, "") }, "sandbox": newSandbox, "vm": newMachines,
	}
	for _, name := range probes.Levels {
		t.Run(name, func(t *testing.T) {
			l := &level{host: makes[name](t), name: name, wait: time.Second}
			if name == "vm" {
				l.wait = 5 * time.Second
			}
			// Somebody on the host listens at a name without a file.
			s, err := net.Listen("unix", "@twinkeel-probe")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			defer bustle()()
			l.other = l.actor("sleep")
			l.other.Manifest.Name, l.other.Manifest.Data = "other", nil
			l.start(l.other)
			before := hostFacts(t)
			test(t, l)
			if after := hostFacts(t); !maps.Equal(before, after) {
				for name := range before {
					if before[name] != after[name] {
						t.Errorf("the host's %s: got %.300q, was %.300q", name, after[name], before[name])
					}
				}
			}
		})
	}
}

// in is the same level for a part of the test.
func (l *level) in(t *testing.T) *level {
	part, h := *l, *l.host
	h.t = t
	part.host = &h
	return &part
}

// unit runs the actor in an image that has all that the probes need.
func (l *level) unit(t *testing.T, argv ...string) workloads.Unit {
	file, img := l.image("levels", withProbes(t))
	u := l.host.unit("1.0.0", file, img, argv...)
	switch l.name {
	case "sandbox":
		u.Manifest.Isolation.Level, u.Manifest.Limits.Memory = l.name, 256<<20
	case "vm":
		u = inMachine(u)
	}
	return u
}

// unmoved checks that the other application has noticed nothing.
func (l *level) unmoved() {
	l.t.Helper()
	if st, err := l.Status(l.t.Context(), "other"); err != nil || !st.Running || st.Restarts != 0 {
		l.t.Errorf("the other: got %+v, %v, want it untouched", st, err)
	}
}

// hostFacts are things of the host's that somebody who got out could have changed.
func hostFacts(t *testing.T) map[string]string {
	t.Helper()
	facts := map[string]string{}
	for _, f := range []string{
		"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
		"/proc/sys/kernel/panic", "/proc/sys/kernel/random/boot_id", "/proc/sys/vm/overcommit_memory", "/proc/swaps", "/proc/modules",
		"/proc/self/mountinfo", "/proc/self/uid_map", "/etc/passwd", "/etc/hostname", "/sys/fs/cgroup/release_agent",
	} {
		b, err := os.ReadFile(f)
		facts[f] = fmt.Sprint(string(b), err)
	}
	for _, dir := range []string{"/", "/etc", "/dev", "/boot"} {
		entries, err := os.ReadDir(dir)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		facts["directory "+dir] = fmt.Sprint(names, err)
	}
	return facts
}

// judge compares the probes' answers with what is expected in their place.
func judge(t *testing.T, e probes.Expectation, out string) []probes.Result {
	t.Helper()
	results, err := probes.Parse(out)
	if err != nil {
		t.Fatal(err)
	}
	open, err := e.Judge(results)
	if err != nil {
		t.Errorf("%s: %v", e.Place, err)
	}
	t.Logf("%s: %d of %d probes are open: %v", e.Place, len(open), len(results), open)
	return open
}

// answers are what a program wrote into the log, without the times.
func (h *host) answers() string {
	var out strings.Builder
	for line := range strings.Lines(h.said()) {
		_, rest, _ := strings.Cut(line, "Z ")
		out.WriteString(rest)
	}
	return out.String()
}

// probeAlone runs the probes as the application.
func (l *level) probeAlone(e probes.Expectation) []probes.Result {
	l.t.Helper()
	u := l.unit(l.t.(*testing.T), "/probe")
	u.Manifest.Update.Restart = "never"
	u.Manifest.Limits.Log, u.Manifest.Limits.Tmp = 1<<20, 16<<20
	l.start(u)
	l.patiently("the end of the probes", func() bool { return !l.status().Running })
	l.patiently("the last answer", func() bool { return strings.Contains(l.said(), "agent-socket") })
	open := judge(l.t.(*testing.T), e, l.answers())
	l.again()
	return open
}

// again makes room for another application of the same name, with a log of its own.
func (l *level) again() {
	l.t.Helper()
	if err := l.Stop(l.t.Context(), "web"); err != nil {
		l.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(l.dir, "log", "web")); err != nil {
		l.t.Fatal(err)
	}
}

// probeEmulator runs the probes where the emulator of level vm runs, with all that it has.
func (l *level) probeEmulator() []probes.Result {
	l.t.Helper()
	emulator := filepath.Join(l.dir, "emulator")
	copyFile(l.t, program(l.t, "inside"), emulator, 0o4755)
	real := l.options.Machines.QEMU
	l.options.Machines.QEMU = emulator
	l.open()
	u := l.unit(l.t.(*testing.T), "/bin/actor", "sleep")
	u.Manifest.Limits.Log = 1 << 20
	if err := l.Start(l.t.Context(), u); err == nil {
		l.t.Fatal("got a machine without an emulator")
	}
	l.options.Machines.QEMU = real
	l.open()
	open := judge(l.t.(*testing.T), probes.Emulator(), l.answers())
	l.again()
	return open
}

func TestEachLevelHoldsAgainstProbesAndAbuse(t *testing.T) {
	eachLevel(t, func(t *testing.T, l *level) {
		switch l.name {
		case "container":
			t.Run("probes", func(t *testing.T) { l.in(t).probeAlone(probes.Container()) })
		case "sandbox":
			t.Run("probes", func(t *testing.T) { l.in(t).probeAlone(probes.Sandbox()) })
		}
		var emulator []probes.Result
		if l.name == "vm" {
			t.Run("emulator", func(t *testing.T) { emulator = l.in(t).probeEmulator() })
		}
		u := l.unit(t, "/bin/actor", "talk", "3000", "stubborn")
		u.Manifest.Run.Grace = 0
		u.Manifest.Health.Exec = []string{"/bin/actor", "fork-for-ever"}
		u.Manifest.Health.Timeout = seconds(l.wait)
		l.start(u)
		t.Run("standing", func(t *testing.T) { l.in(t).standing() })
		if l.name == "vm" { // in the one machine that all the rest is tried in
			t.Run("probes", func(t *testing.T) {
				out, _ := l.in(t).exec("/probe")
				for _, r := range judge(t, probes.Guest(), out) {
					same := func(e probes.Result) bool { return e.Name == r.Name }
					if slices.ContainsFunc(emulator, same) && probes.Container().Known[r.Name].Why == "" {
						t.Errorf("%s: open in the guest, and in the emulator's place", r.Name)
					}
				}
			})
		}
		for _, a := range probes.Abuses {
			t.Run(a.Name, func(t *testing.T) {
				part := l.in(t)
				try, ok := attempts[a.Name]
				if !ok || a.Ends[l.name] == "" {
					t.Fatalf("got no attempt at it, or nothing that is expected of level %s", l.name)
				}
				try(part, u)
				part.unmoved()
			})
		}
	})
}

// standing looks at what runs on the host for the application.
func (l *level) standing() {
	l.t.Helper()
	seen := 0
	for n := range 200 {
		for _, pid := range oci.Groups().Members(fmt.Sprintf("%sweb.%d", groups, n)) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				continue // it has just ended
			}
			seen++
			status := map[string]string{}
			for line := range strings.Lines(string(b)) {
				k, v, _ := strings.Cut(line, ":")
				status[k] = strings.Join(strings.Fields(v), " ")
			}
			l.t.Logf("process %d %s: uid %s, capabilities %s, new privileges %s, filter %s", pid, status["Name"], status["Uid"], status["CapEff"], status["NoNewPrivs"], status["Seccomp"])
			for key, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
				if status[key] != want {
					l.t.Errorf("process %d %s: %s: got %s, want %s", pid, status["Name"], key, status[key], want)
				}
			}
			spaces := []string{"user", "mnt", "net", "ipc", "uts", "pid"}
			for id := range strings.FieldsSeq(status["Uid"] + " " + status["Gid"]) {
				// gVisor's kernel runs as nobody, in a namespace where nobody is all there is.
				if nobody := l.name == "sandbox" && id == "65534"; len(id) < len("536870912") && !nobody {
					l.t.Errorf("process %d %s: id: got %s, want one of the application's range", pid, status["Name"], id)
				}
			}
			if l.name == "sandbox" {
				spaces = spaces[:5] // on the platform that traces processes, it has to see them
			}
			for _, ns := range spaces {
				theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
				ours, err2 := os.Readlink("/proc/self/ns/" + ns)
				if theirs == ours && err1 == nil && err2 == nil {
					l.t.Errorf("process %d %s: namespace %s is the host's", pid, status["Name"], ns)
				}
			}
		}
	}
	if seen == 0 {
		l.t.Error("got no process of the application's on the host")
	}
}

// give runs a command in web and gives it up after a while.
func (l *level) give(after time.Duration, argv ...string) (said string, code int, err error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), after)
	defer cancel()
	var out bytes.Buffer
	code, err = l.Exec(ctx, "web", argv, nil, &out, &out)
	return out.String(), code, err
}
