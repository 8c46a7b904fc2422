package machine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/needs"
	"github.com/twinkeel/twinkeel/internal/verity"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// events records what happens to a machine, in order.
type events chan string

func (e events) Start(_ context.Context, slot string) (func() error, error) {
	if slot == "broken" {
		e <- "panic"
		return nil, errors.New("no init found")
	}
	e <- "up " + slot
	return func() error { e <- "down " + slot; return nil }, nil
}

func (e events) want(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-e:
			if got != w {
				t.Fatalf("got event %q, want %q", got, w)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("event %q never came", w)
		}
	}
}

// newMachine returns a machine that boots slots in turn, and its events.
func newMachine(t *testing.T, agent string) (*Machine, events) {
	t.Helper()
	happened := make(events, 100)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	slots := []string{"a", "b"}
	m := &Machine{
		Dir: t.TempDir(), System: happened, Log: log,
		Loader: func(context.Context) (string, error) {
			if len(slots) == 0 {
				return "", errors.New("nothing boots")
			}
			s := slots[0]
			slots = slots[1:]
			return s, nil
		},
		Booted: func(b Boot) {
			if b.Cut {
				happened <- "after a cut"
			}
		},
	}
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	m.Agent = append([]string{"sh", "-c", agent}, m.RebootCommand()...)
	return m, happened
}

// power starts the machine; the returned function turns it off and returns Run's error.
func power(t *testing.T, m *Machine) (off func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

const waitForEver = `trap 'exit 0' TERM; while :; do sleep 0.02; done`

func TestTheRebootCommandStartsTheNextSlot(t *testing.T) {
	m, happened := newMachine(t, waitForEver)
	off := power(t, m)
	happened.want(t, "up a")
	c := m.RebootCommand()
	if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	happened.want(t, "down a", "up b")
	if err := off(); err != nil {
		t.Fatal(err)
	}
	happened.want(t, "down b")
}

func TestAMachineThatGoesDownDoesNotHearAnotherRebootCommand(t *testing.T) {
	m, happened := newMachine(t, waitForEver)
	m.Loader = func(context.Context) (string, error) { return "a", nil }
	command := m.RebootCommand()
	m.Agent = append([]string{"sh", "-c", `[ -e "$1.done" ] || { touch "$1.done"; shift; "$@"; "$@"; "$@"; }; ` + waitForEver, "agent", m.Dir + "/once"}, command...)
	off := power(t, m)
	happened.want(t, "up a", "down a", "up a")
	select {
	case e := <-happened:
		t.Errorf("got %q after the second boot, want nothing", e)
	case <-time.After(300 * time.Millisecond):
	}
	if err := off(); err != nil {
		t.Fatal(err)
	}
}

func TestAPowerCutKillsTheAgentAndItsChildrenAtOnce(t *testing.T) {
	dir := t.TempDir()
	beat := filepath.Join(dir, "beat")
	m, happened := newMachine(t, `(while :; do echo >>`+beat+`; sleep 0.01; done) & wait`)
	off := power(t, m)
	happened.want(t, "up a")
	for size(beat) == 0 {
		time.Sleep(time.Millisecond)
	}
	m.PowerCut(t.Context())
	happened.want(t, "down a")
	happened.want(t, "up b", "after a cut")
	m.StopAgent(t.Context()) // it leaves a child behind
	before := size(beat)
	time.Sleep(100 * time.Millisecond)
	if after := size(beat); after != before {
		t.Errorf("children of the agent still run: %d bytes became %d", before, after)
	}
	if err := off(); err != nil {
		t.Fatal(err)
	}
}

func size(file string) int64 {
	if s, err := os.Stat(file); err == nil {
		return s.Size()
	}
	return 0
}

func TestAStoppedAgentLeavesTheMachineUp(t *testing.T) {
	m, happened := newMachine(t, waitForEver)
	off := power(t, m)
	happened.want(t, "up a")
	m.StopAgent(t.Context())
	select {
	case e := <-happened:
		t.Errorf("got %q after the agent was stopped, want nothing", e)
	case <-time.After(200 * time.Millisecond):
	}
	m.PowerCut(t.Context())
	happened.want(t, "down a", "up b")
	if err := off(); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentThatEndsUnaskedIsAnError(t *testing.T) {
	m, _ := newMachine(t, "exit 3")
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "boot 1: agent ended unasked: exit status 3") {
		t.Errorf("got %v, want the agent's exit status", err)
	}
}

func TestALoaderThatFindsNothingIsAnError(t *testing.T) {
	m, _ := newMachine(t, waitForEver)
	m.Loader = func(context.Context) (string, error) { return "", errors.New("nothing boots") }
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing boots") {
		t.Errorf("got %v, want the loader's error", err)
	}
}

func TestASlotThatDoesNotComeUpIsTriedAgain(t *testing.T) {
	m, happened := newMachine(t, waitForEver)
	slots := []string{"broken", "broken", "a"}
	m.Loader = func(context.Context) (string, error) {
		s := slots[0]
		slots = slots[1:]
		return s, nil
	}
	off := power(t, m)
	happened.want(t, "panic", "panic", "up a")
	if err := off(); err != nil {
		t.Fatal(err)
	}
	m.Loader = func(context.Context) (string, error) { return "broken", nil }
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing boots: no init found") {
		t.Errorf("got %v, want an end of the attempts", err)
	}
}

func TestUsageCountsAgentAndChildren(t *testing.T) {
	m, happened := newMachine(t, `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; `+waitForEver)
	off := power(t, m)
	happened.want(t, "up a")
	var u Usage
	for u.CPU == 0 || u.Peak == 0 {
		time.Sleep(10 * time.Millisecond)
		v := m.Usage()
		u.CPU += v.CPU
		u.Peak = max(u.Peak, v.Peak)
	}
	if err := off(); err != nil {
		t.Fatal(err)
	}
	if u.Peak < 100<<10 || u.Peak > 1<<30 {
		t.Errorf("got a peak of %d bytes for two shells", u.Peak)
	}
}

// needLoops is for tests of loop devices, and of partitions on them.
func needLoops(t *testing.T) {
	t.Helper()
	needs.That(t, os.Geteuid() == 0, "root")
	needs.Tools(t, "sgdisk")
	_, err := os.Stat("/dev/loop-control")
	needs.That(t, err == nil, "loop devices")
}

func TestADiskHasItsPartitionsWhereItsTableSays(t *testing.T) {
	needLoops(t)
	path := filepath.Join(t.TempDir(), "disk.img")
	d, err := CreateDisk(t.Context(), path, []Partition{{"root-a", 3 << 20}, {"boot-a", 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	content := bytes.Repeat([]byte("boot"), 1<<17) // of 512 KiB; its tree is one block
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, content, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := WriteImage(d.Device("boot-a"), image, release.Salt("salt"))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := verity.Root(bytes.NewReader(content), int64(len(content)), release.Salt("salt")); root != want || err != nil {
		t.Errorf("got root %s, want %s (%v)", root, want, err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(disk, content); at != 4<<20 {
		t.Errorf("boot-a begins at byte %d of the disk, want %d", at, 4<<20)
	}
	if found, err := partitions.Resolve(d.Spec("boot-a")); err != nil || found != d.Device("boot-a") {
		t.Errorf("%s leads to %q, want %s (%v)", d.Spec("boot-a"), found, d.Device("boot-a"), err)
	}
	out, err := exec.Command("sgdisk", "--info=2", path).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("First sector: 8192 ")) || !bytes.Contains(out, []byte("Partition name: 'boot-a'")) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := WriteImage(d.Device("boot-a"), path, nil); err == nil {
		t.Error("a file larger than the partition was written without an error")
	}
	if _, err := CreateDisk(t.Context(), path, []Partition{{"odd", 1000}}); err == nil {
		t.Error("a partition that is not aligned was made")
	}
}

// TestHelperIsolated is the process that the next test kills.
func TestHelperIsolated(t *testing.T) {
	dir := os.Getenv("TWINKEEL_TEST_ISOLATED")
	if dir == "" {
		t.Skip("helper of another test")
	}
	ours, code, err := Isolate(t.Context())
	if !ours {
		t.Fatal(code, err)
	}
	d, err := CreateDisk(t.Context(), filepath.Join(dir, "disk"), []Partition{{"data", 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	beat, err := Start([]string{"sh", "-c", "while :; do echo >>" + dir + "/beat; sleep 0.01; done"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "loop"), []byte(filepath.Base(d.Device("data"))), 0o600); err != nil {
		t.Fatal(err)
	}
	<-beat.ended
}

func TestNothingOutlivesAnIsolatedProcessThatIsKilled(t *testing.T) {
	needLoops(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperIsolated$", "-test.v")
	cmd.Env = append(os.Environ(), "TWINKEEL_TEST_ISOLATED="+dir)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for size(filepath.Join(dir, "loop")) == 0 || size(filepath.Join(dir, "beat")) == 0 {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the isolated process did not get ready:\n%s", out)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	loop, err := os.ReadFile(filepath.Join(dir, "loop"))
	if err != nil {
		t.Fatal(err)
	}
	attached := filepath.Join("/sys/block", string(loop), "loop/backing_file")
	for {
		b, err := os.ReadFile(attached)
		if err != nil || !strings.HasPrefix(string(b), dir) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still attached to %s", loop, b)
		}
		time.Sleep(10 * time.Millisecond)
	}
	before := size(filepath.Join(dir, "beat"))
	time.Sleep(100 * time.Millisecond)
	if after := size(filepath.Join(dir, "beat")); after != before {
		t.Error("a process of the killed one still runs")
	}
}
