package agent_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/agent"
	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/internal/sim"
	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/release"
)

// once begins the healthy story, lets change spoil it, polls once, and returns what the
// poll said.
func once(t *testing.T, change func(*history)) (*history, error) {
	t.Helper()
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	change(h)
	var polled error
	h.m.Process(func(a *agent.Agent) { polled = a.Once(context.Background()) })
	return h, polled
}

// reasons returns the codes of the status.
func (h *history) reasons(t *testing.T) string {
	t.Helper()
	var codes []string
	h.m.Process(func(a *agent.Agent) {
		// What a poll found is kept in memory, so it has to be the same process.
		_ = a.Once(context.Background())
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, reason := range r.Status.Reasons {
			codes = append(codes, reason.Code)
		}
	})
	return strings.Join(codes, " ")
}

// untouched checks that release 1 runs, stands, and that nothing was written beside it.
func (h *history) untouched(t *testing.T) {
	t.Helper()
	if h.m.Running() != h.w.first || h.m.Standing() != partitions.A || h.m.Holds(partitions.A) != h.w.first {
		t.Error("release 1 does not stand in slot a any more")
	}
	if h.phase() != agent.Idle {
		t.Errorf("a transaction was opened: %s", h.phase())
	}
	for _, b := range h.m.Disk(partitions.B, "root").Bytes() {
		if b != 0 {
			t.Error("slot b was written")
			break
		}
	}
}

func TestWhatIsNotForThisHostIsRefusedBeforeTheFirstByte(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*history)
		code   string
	}{
		"another machine's release":   {func(h *history) { h.m.Options.Compatible = "other" }, agent.CodeIncompatible},
		"a newer updater's release":   {func(h *history) { h.m.Options.Updater, _ = release.ParseVersion("0.0.1") }, agent.CodeIncompatible},
		"partitions do not match":     {func(h *history) { h.m.Options.Images = []string{"root", "boot"} }, agent.CodeIncompatible},
		"metadata expired":            {func(h *history) { h.m.SetTime(noon.AddDate(2, 0, 0)) }, agent.CodeExpired},
		"clock ten years ahead":       {func(h *history) { h.m.SetTime(noon.AddDate(10, 0, 0)) }, agent.CodeExpired},
		"no server":                   {func(h *history) { h.m.Net.Serve(map[string][]byte{}) }, ""},
		"factory root of others":      {func(h *history) { h.m.State.Wipe(); h.m.Options.Factory = []byte("{}") }, agent.CodeUntrusted},
		"data partition is read-only": {func(h *history) { h.m.Options.State = readOnly{h.m.State} }, agent.CodeState},
		"data partition is absent": {func(h *history) {
			h.m.Options.State, h.m.Options.StateErr = nil, errors.New("no such device")
		}, agent.CodeState},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			h, err := once(t, c.change)
			if c.code == "" && err == nil {
				t.Error("the poll says nothing")
			}
			if got := h.reasons(t); c.code != "" && !strings.Contains(got, c.code) {
				t.Errorf("reasons: got %q, want %q (%v)", got, c.code, err)
			}
			h.untouched(t)
		})
	}
}

// readOnly is a directory on a file system that was mounted read-only.
type readOnly struct{ durable.Dir }

var errReadOnly = errors.New("read-only file system")

func (readOnly) Replace(string, []byte) error { return errReadOnly }
func (readOnly) Remove(string) error          { return errReadOnly }
func (d readOnly) Sub(name string) (durable.Dir, error) {
	s, err := d.Dir.Sub(name)
	return readOnly{s}, err
}

func TestSlotSmallerThanTheImageIsRefused(t *testing.T) {
	h, err := once(t, func(h *history) { h.m.Options.Slots = small{h.m.Options.Slots} })
	if got := h.reasons(t); !strings.Contains(got, agent.CodeNoRoom) {
		t.Errorf("reasons: got %q, want %s (%v)", got, agent.CodeNoRoom, err)
	}
	h.untouched(t)
}

// small makes slot b too small for the image with its tree.
type small struct{ agent.Slots }

func (s small) OpenRead(slot partitions.Slot, image string) (partitions.OpenDevice, error) {
	d, err := s.Slots.OpenRead(slot, image)
	if err == nil && slot == partitions.B {
		return shrunk{d}, nil
	}
	return d, err
}

type shrunk struct{ partitions.OpenDevice }

func (shrunk) Size() int64 { return 512 << 10 }

// A clock that is behind blocks nothing: what signed data proves counts.
func TestClockIn1970StillUpdates(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.SetTime(time.Date(1970, 1, 1, 0, 0, 10, 0, time.UTC))
	if got := h.reasons(t); got != "" && !strings.Contains(got, agent.CodeClockBehind) && !strings.Contains(got, agent.CodeReboot) {
		t.Errorf("reasons: got %q", got)
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.new {
		t.Errorf("release 1 runs in the end\n%s", h.tail())
	}
}

// Expiry never blocks the way back.
func TestExpiredMetadataDoesNotStopARollback(t *testing.T) {
	s := stories[0]
	s.rollback = true
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.SetTime(noon.AddDate(10, 0, 0))
	h.m.Net.Serve(map[string][]byte{})
	h.goBack = true
	h.m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback, Reason: "test"}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		h.m.Process(sim.Once)
	}
	if h.m.Running() != h.w.first || h.deniedCode(h.new) != agent.CodeByHand {
		t.Errorf("release 1 does not run, or release 2 is not denied\n%s", h.tail())
	}
}

// A delta that vanished costs bytes, not the update.
func TestVanishedDeltaIsReplacedByTheFullImage(t *testing.T) {
	h, _ := once(t, func(h *history) {
		files := maps.Clone(h.w.files2[sim.Healthy])
		delete(files, release.BlobPath(h.new.Manifest.Deltas[0].SHA256))
		h.m.Net.Serve(files)
	})
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.new {
		t.Errorf("release 1 runs in the end\n%s", h.tail())
	}
}

// With nothing to fetch from, the slot stays cleared, the running one untouched, and the
// work goes on when the payloads are back.
func TestVanishedPayloadsLeaveASafeState(t *testing.T) {
	h, err := once(t, func(h *history) {
		files := maps.Clone(h.w.files2[sim.Healthy])
		maps.DeleteFunc(files, func(p string, _ []byte) bool { return strings.HasPrefix(p, "blobs/") })
		h.m.Net.Serve(files)
	})
	if err == nil || h.m.Running() != h.w.first || h.m.Record().Slots[partitions.B].Priority != 0 {
		t.Errorf("got %v; slot b: %+v", err, h.m.Record().Slots[partitions.B])
	}
	h.m.Net.Serve(h.w.files2[sim.Healthy])
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.new {
		t.Errorf("release 1 runs in the end\n%s", h.tail())
	}
}

// Rot anywhere in the base costs a repair, never a wrong slot.
func TestRottenBaseIsRepairedFromTheFullImage(t *testing.T) {
	for _, off := range []int64{0, 4096 * 7, 512<<10 + 5} {
		h, err := begin(stories[0], 1)
		if err != nil {
			t.Fatal(err)
		}
		h.m.Disk(partitions.A, "root").Rot(off)
		h.m.Process(sim.Once)
		if got := h.m.Holds(partitions.B); got != h.new {
			t.Errorf("rot at %d: slot b holds %v, want release 2\n%s", off, got, h.tail())
		}
	}
}

// Rot in a slot that waits for its trial is found by the boot that would arm it, and the
// slot is staged again: what rotted is never tried.
func TestRottenStagedSlotIsNeverTried(t *testing.T) {
	s := stories[0]
	s.unlucky = 3 // all tries of the first trial
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if h.m.Process(sim.Once); h.phase() == agent.Staged {
			break
		}
	}
	if h.phase() != agent.Staged || h.m.Holds(partitions.B) != h.new {
		t.Fatalf("the lost trial does not wait: %s", h.phase())
	}
	h.m.Disk(partitions.B, "root").Rot(4096 * 3)
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.new || h.m.Holds(partitions.B) != h.new || len(h.m.Broken()) > 0 {
		t.Errorf("release 2 does not run, whole: %v\n%s", h.m.Broken(), h.tail())
	}
}

// A factory system without a manifest can be fallen back to by the loader, but nothing
// can vouch for it, so no rollback arms it.
func TestUnknownFactorySystemIsNotARollbackTarget(t *testing.T) {
	h, err := begin(stories[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	h.m.State.Wipe()
	h.m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbInit}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.settle(); err != nil || h.m.Running() != h.new {
		t.Fatalf("release 2 does not run: %v\n%s", err, h.tail())
	}
	h.m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback}, nil)
	})
	if agent.CodeOf(err) != agent.CodeNoFallback || h.m.Standing() != partitions.B {
		t.Errorf("got %v, want %s", err, agent.CodeNoFallback)
	}
}

// A hold that was damaged stops updates until it is taken back, and can be taken back.
func TestDamagedHoldHoldsUntilUnhold(t *testing.T) {
	h, err := once(t, func(h *history) { h.m.State.Damage("hold.json", []byte("{}")) })
	if err == nil {
		t.Error("the poll says nothing")
	}
	h.untouched(t)
	h.m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbUnhold}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.settle(); err != nil || h.m.Running() != h.new {
		t.Errorf("release 2 does not run: %v", err)
	}
}

// The agent of release 2 writes a newer state format and dies in its trial: the agent of
// release 1 reads everything that it left.
func TestNewerAgentThatDiesLeavesReadableState(t *testing.T) {
	s := stories[0]
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	starts := 0
	for range 40 {
		newer := h.m.Running() == h.new
		h.m.Options.StateFormat = 1
		if newer {
			h.m.Options.StateFormat = 2
		}
		h.m.Process(func(a *agent.Agent) {
			if !newer {
				_ = a.Once(context.Background())
				return
			}
			starts++
			// It comes as far as its first writes, and then the machine resets.
			h.m.CutAt(1+starts, sim.PowerCut)
			_ = a.Once(context.Background())
		})
		h.m.Calm()
		h.m.SetTime(h.m.Clock().Now().Add(7 * time.Hour))
		if h.deniedCode(h.new) != "" {
			break
		}
	}
	if starts == 0 {
		t.Fatal("release 2 was never tried")
	}
	h.m.Options.StateFormat = 1
	h.m.Process(func(a *agent.Agent) {
		r, err := a.Do(context.Background(), agent.Request{Verb: agent.VerbStatus}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, reason := range r.Status.Reasons {
			if reason.Code == agent.CodeState {
				t.Errorf("state is not readable: %s", reason.Text)
			}
		}
	})
	if h.m.Running() == nil {
		t.Error("nothing runs")
	}
}

// A trial on a machine whose data partition is gone, or read-only, goes back by the boot
// record alone; a committed system without it runs on.
func TestTrialWithoutStateGoesBack(t *testing.T) {
	for name, spoil := range map[string]func(*history){
		"absent": func(h *history) {
			h.m.Options.State, h.m.Options.StateErr = nil, errors.New("no such device")
		},
		"read-only": func(h *history) { h.m.Options.State = readOnly{h.m.State} },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := once(t, func(*history) {})
			if h.m.Running() != nil || h.phase() != agent.Armed {
				t.Fatalf("the trial is not armed: %s", h.phase())
			}
			spoil(h)
			for range 6 {
				h.m.Process(sim.Once)
			}
			if h.m.Running() != h.w.first || h.m.Standing() != partitions.A {
				t.Errorf("release 1 does not run again\n%s", h.tail())
			}
			var err error
			h.m.Process(func(a *agent.Agent) {
				_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbUpdate, Now: true, Force: true}, nil)
			})
			if agent.CodeOf(err) != agent.CodeState {
				t.Errorf("update without state: got %v, want %s", err, agent.CodeState)
			}
		})
	}
}

// The operator goes back although the data partition is gone, and stays there.
func TestRollbackWithoutState(t *testing.T) {
	s := stories[0]
	s.rollback = true
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	h.goBack = false
	h.m.Options.State, h.m.Options.StateErr = nil, errors.New("no such device")
	var r agent.Result
	h.m.Process(func(a *agent.Agent) {
		r, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbRollback, Reason: "test"}, nil)
	})
	if err != nil {
		t.Fatal(err, r)
	}
	for range 4 {
		h.m.Process(sim.Once)
	}
	if h.m.Running() != h.w.first {
		t.Errorf("release 2 still runs\n%s", h.tail())
	}
}

// Damaged state is rebuilt from the boot record and the slots: nothing is lowered, and
// the host updates on.
func TestDamagedStateIsRebuilt(t *testing.T) {
	for _, names := range [][]string{
		{"journal.json"}, {"slot-a.json"}, {"slot-b.json"}, {"deployment-1.json"}, {"deployment-1.json", "deployment-1.copy.json"},
		{"denials.json"}, {"denials.json", "denials.copy.json"}, {"host.json"}, {"history.json"}, {"checkpoint.json"},
	} {
		for kind, content := range map[string][]byte{"empty": {}, "zeros": make([]byte, 200), "json": []byte("{}")} {
			t.Run(strings.Join(names, "_")+"_"+kind, func(t *testing.T) {
				s := stories[0]
				h, err := begin(s, 1)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					h.m.State.Damage(name, content)
				}
				if err := h.settle(); err != nil {
					t.Fatal(err)
				}
				if h.m.Running() != h.new || len(h.m.Broken()) > 0 {
					t.Errorf("release 1 runs in the end; %v\n%s", h.m.Broken(), h.tail())
				}
			})
		}
	}
}

// A deployment that was denied stays denied when the denials are lost with the rest of
// the state: the boot record keeps the last one.
func TestDenialSurvivesTheLossOfTheDataPartition(t *testing.T) {
	s := stories[2]
	h, err := begin(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.deniedCode(h.new) == "" {
		t.Fatal("release 2 is not denied")
	}
	h.m.State.Wipe()
	manifest, err := h.w.first.Manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	h.m.Process(func(a *agent.Agent) {
		_, err = a.Do(context.Background(), agent.Request{Verb: agent.VerbInit, Factory: manifest}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	starts := h.m.Starts
	if err := h.settle(); err != nil {
		t.Fatal(err)
	}
	if h.m.Running() != h.w.first || h.m.Starts != starts {
		t.Errorf("release 2 was tried again\n%s", h.tail())
	}
}
