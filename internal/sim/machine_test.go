package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// newMachine returns a machine that runs release 1, and releases 1 and 2.
func newMachine(t *testing.T) (*Machine, *Release, *Release) {
	t.Helper()
	p, err := NewPublisher(t.TempDir(), newWorld(1).now.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	image := Image(16<<12, 1)
	first, err := p.Release(Spec{Version: "1", Images: map[string][]byte{"root": image}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Release(Spec{Version: "2", Images: map[string][]byte{"root": Edit(image, 2)}, From: []*Release{first}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Direct(second, nil); err != nil {
		t.Fatal(err)
	}
	m, err := NewMachine(1, newWorld(1).now, 64<<12, p.Root(), first, Simulated)
	if err != nil {
		t.Fatal(err)
	}
	m.Releases = append(m.Releases, second)
	m.Net.Serve(p.Files())
	return m, first, second
}

// wantBroken checks that the machine noticed that a law was broken.
func wantBroken(t *testing.T, m *Machine, law string) {
	t.Helper()
	for _, b := range m.Broken() {
		if strings.HasPrefix(b, law+":") {
			return
		}
	}
	t.Errorf("got %q, want a breach of %s", m.Broken(), law)
}

func TestMachineUpdatesByTheRealAgent(t *testing.T) {
	m, first, second := newMachine(t)
	manifest, err := first.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Process(func(a *agent.Agent) {
		if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil); err != nil {
			t.Fatal(err)
		}
	})
	for range 4 {
		m.Process(Once)
	}
	if m.Running() != second || m.Holds(partitions.A) != first || len(m.Broken()) > 0 {
		t.Errorf("runs %v, broken %q; want release 2 with release 1 behind it\n%s", m.Running(), m.Broken(), strings.Join(m.Trace(), "\n"))
	}
}

func TestLawsSeeUnverifiedBits(t *testing.T) {
	m, _, _ := newMachine(t)
	m.Disk(partitions.A, "root").Rot(5000)
	m.Process(Once)
	wantBroken(t, m, "law 2")
}

func TestLawsSeeALoaderThatStartsNothing(t *testing.T) {
	m, _, _ := newMachine(t)
	m.loader.Firmware.(*simulatedLoader).disk.Fill(make([]byte, 8192))
	m.Process(Once)
	wantBroken(t, m, "law 1")
}

func TestLawsSeeAWriteToTheWrongSlot(t *testing.T) {
	m, _, _ := newMachine(t)
	m.Process(func(*agent.Agent) {
		if _, err := m.slots.OpenWrite(partitions.A, "root"); err == nil {
			t.Error("the running slot was opened for writing")
		}
	})
	wantBroken(t, m, "law 3")

	m, _, _ = newMachine(t)
	m.Process(func(*agent.Agent) {
		if err := m.loader.Describe(context.Background(), partitions.B, bootloader.Description{}); err != nil {
			t.Fatal(err)
		}
		s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 1}}}
		if err := m.loader.Store(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		d, err := m.slots.OpenWrite(partitions.B, "root")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.slots.OpenWrite(partitions.B, "root"); err == nil {
			t.Error("a slot was opened for writing twice")
		}
		_, _ = d.WriteAt(make([]byte, 4096), 0)
	})
	wantBroken(t, m, "law 3")
}

func TestLawsSeeACommitWithoutHealth(t *testing.T) {
	m, _, second := newMachine(t)
	for name, part := range second.parts {
		m.Disk(partitions.B, name).Fill(part)
	}
	m.Process(func(*agent.Agent) {
		if err := m.loader.Describe(context.Background(), partitions.B, second.description()); err != nil {
			t.Fatal(err)
		}
		s := bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}, {Priority: 2, Tries: 1}}}
		if err := m.loader.Store(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		_ = m.Reboot(context.Background())
	})
	m.Process(func(*agent.Agent) {
		s, err := m.loader.Load(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_ = m.loader.Store(context.Background(), s.Commit(partitions.B))
	})
	if m.Running() != second {
		t.Fatalf("release 2 is not on trial: %v", m.Broken())
	}
	wantBroken(t, m, "law 5")
}

func TestLawsSeeAnUpdateThatIsHeld(t *testing.T) {
	const day = 24 * time.Hour
	hold := func(m *Machine, d time.Duration) {
		m.Process(func(a *agent.Agent) {
			if _, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbHold, Until: m.now.Add(d)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for name, c := range map[string]struct {
		before func(*Machine)
		held   bool
	}{
		"held":                                  {func(m *Machine) { hold(m, day); m.Pass(day / 2) }, true},
		"over":                                  {func(m *Machine) { hold(m, day); m.Pass(2 * day) }, false},
		"over, and the clock turned back since": {func(m *Machine) { hold(m, day); m.Pass(2 * day); m.SetTime(m.now.Add(-2 * day)) }, false},
		"held when the clock was turned back":   {func(m *Machine) { hold(m, 3*day); m.Pass(2 * day); m.SetTime(m.now.Add(-2 * day)) }, true},
		"held since the clock was turned back":  {func(m *Machine) { m.SetTime(m.now.Add(-9 * day)); hold(m, day) }, true},
		"over, turned back, and held again": {func(m *Machine) {
			hold(m, day)
			m.Pass(2 * day)
			m.SetTime(m.now.Add(-2 * day))
			m.Pass(time.Hour)
			hold(m, day)
		}, true},
	} {
		m, _, second := newMachine(t)
		c.before(m)
		m.heldBack(second, agent.Transaction{})
		if got := len(m.Broken()) > 0; got != c.held {
			t.Errorf("%s: got a breach: %t, want %t: %q", name, got, c.held, m.Broken())
		}
	}
}

func TestNetFaultsAreWhatTheySay(t *testing.T) {
	w := newWorld(1)
	n := w.NewNet()
	old, now := bytes.Repeat([]byte("old "), 50), bytes.Repeat([]byte("new "), 100)
	n.Serve(map[string][]byte{"a": old})
	n.Serve(map[string][]byte{"a": now})
	get := func(f NetFault) ([]byte, error) {
		n.Fault = func(int, string) NetFault { return f }
		return n.Get(context.Background(), "a", 0, 1000)
	}
	for _, f := range append(NetFaults(), NoFault) {
		b, err := get(f)
		var ok bool
		switch f {
		case NoFault:
			ok = err == nil && bytes.Equal(b, now)
		case Drop, Stall:
			ok = errors.Is(err, agent.ErrUnavailable)
		case Gone:
			ok = errors.Is(err, fs.ErrNotExist)
		case Replay:
			ok = err == nil && bytes.Equal(b, old)
		case Truncate:
			ok = err == nil && bytes.Equal(b, now[:200])
		case Flip:
			ok = err == nil && len(b) == len(now) && !bytes.Equal(b, now)
		case Redirect:
			ok = err == nil && bytes.Equal(b, now) // there is but one file
		case Endless:
			ok = err == nil && len(b) == 1000
		case Page:
			ok = err == nil && bytes.HasPrefix(b, []byte("<html>"))
		}
		if !ok {
			t.Errorf("%s: got %d bytes, %v", f, len(b), err)
		}
	}
	n.Fault = nil
	if b, err := n.Get(context.Background(), "a", 396, 1000); err != nil || string(b) != "new " {
		t.Errorf("get from 396: got %q, %v, want the last four bytes", b, err)
	}
}

func TestRepositoryIsTheSameEveryTime(t *testing.T) {
	sum := func() string {
		p, err := NewPublisher(t.TempDir(), newWorld(1).now.AddDate(1, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Release(Spec{Version: "1", Images: map[string][]byte{"root": Image(16<<12, 1)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Direct(r, func(d *release.Directive) { d.Permille = 500 }); err != nil {
			t.Fatal(err)
		}
		files := p.Files()
		all := fmt.Sprint(len(files))
		for _, name := range []string{"metadata/timestamp.json", "metadata/1.root.json"} {
			all += release.DigestOf(files[name]).String()
		}
		return all
	}
	if a, b := sum(), sum(); a != b {
		t.Errorf("got %s and %s", a, b)
	}
}

// A copy of the boot record does not rot while the other one is being written: what a cut
// would tear then is all there is.
func TestOneCopyOfTheRecordRotsAtATime(t *testing.T) {
	for name, open := range map[string]OpenLoader{"simulated": Simulated, "GRUB": Grub} {
		w := newWorld(1)
		l, err := open(w, bootloader.State{Slots: [2]bootloader.Record{{Priority: 1, Successful: true}}}, bootloader.Description{})
		if err != nil {
			t.Fatal(err)
		}
		disk := func() *Disk { return w.parts[0].(*Disk) }
		for _, writing := range []bool{true, false} {
			was := bytes.Clone(disk().Stable())
			if writing {
				if _, err := disk().WriteAt(disk().Bytes()[:512], 0); err != nil {
					t.Fatal(err)
				}
			} else {
				disk().settle()
			}
			l.Rot(1, 5)
			if rotten := !bytes.Equal(was, disk().Stable()); rotten == writing {
				t.Errorf("%s: while it is written: %t: a copy rots: %t", name, writing, rotten)
			}
		}
	}
}
