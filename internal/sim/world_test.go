package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twinkeel/twinkeel/internal/durable"
)

func newWorld(seed uint64) *World {
	return NewWorld(seed, time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
}

// cuts runs f in new worlds, cut before every effect, with every fate and a number of
// seeds, and then calls check.
func cuts(t *testing.T, seeds uint64, setUp func(*World), f func(), check func(w *World, n int)) {
	t.Helper()
	for _, fate := range []Fate{Lost, Kept, Mixed} {
		for seed := range seeds {
			for n := 1; ; n++ {
				if n > 10000 {
					t.Fatal("no end")
				}
				w := newWorld(seed)
				w.Fate = fate
				setUp(w)
				w.CutAt(n, PowerCut)
				if w.Run(f) == Returned {
					break
				}
				check(w, n)
			}
		}
	}
}

func TestDirKeepsEveryAcknowledgedReplace(t *testing.T) {
	for _, profile := range []Profile{Weak, Ordered} {
		var d *Dir
		acked := map[string]int{}
		cuts(t, 8, func(w *World) {
			w.Profile = profile
			d = w.NewDir("state")
			clear(acked)
		}, func() {
			for i := 1; i <= 4; i++ {
				for _, name := range []string{"a", "b"} {
					if err := d.Replace(name, []byte(fmt.Sprint(i))); err != nil {
						t.Fatal(err)
					}
					acked[name] = i
				}
			}
		}, func(w *World, n int) {
			for _, name := range []string{"a", "b"} {
				got, err := d.Read(name)
				if err != nil {
					got = []byte("0")
				}
				old, next := fmt.Sprint(acked[name]), fmt.Sprint(acked[name]+1)
				if string(got) != old && string(got) != next {
					t.Errorf("profile %d, fate %s, cut %d: %s: got %s, want %s or %s", profile, w.Fate, n, name, got, old, next)
				}
			}
		})
	}
}

func TestDirWithoutItsSyncLosesWhatWasWritten(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(20) {
		w := newWorld(seed)
		w.Fate = Mixed
		d := w.NewDir("state")
		d.Damage("a", []byte("old"))
		w.CutAt(1, PowerCut)
		w.Run(func() {
			d.apply(nameOp{name: "a", data: []byte("new")})
			_ = d.sync()
		})
		got, _ := d.Read("a")
		seen[string(got)] = true
	}
	if !seen["old"] || !seen["new"] {
		t.Errorf("got only %v, want old and new content over the seeds", seen)
	}
}

func TestDiskKeepsEveryFlushedSector(t *testing.T) {
	var d *Disk
	var flushed []byte
	cuts(t, 8, func(w *World) {
		d = w.NewDisk("disk", 4096, 64, 64)
		flushed = make([]byte, 4096)
	}, func() {
		for i := range 6 {
			b := bytes.Repeat([]byte{byte(i + 1)}, 640)
			if _, err := d.WriteAt(b, int64(i)*640); err != nil {
				t.Fatal(err)
			}
			if i%2 == 1 {
				if err := d.Flush(); err != nil {
					t.Fatal(err)
				}
				copy(flushed, d.view[:(i+1)*640])
			}
		}
	}, func(w *World, n int) {
		end := len(bytes.TrimRight(flushed, "\x00"))
		if !bytes.Equal(d.view[:end], flushed[:end]) {
			t.Errorf("fate %s, cut %d: flushed bytes are gone", w.Fate, n)
		}
		if !bytes.Equal(d.view, d.stable) {
			t.Errorf("fate %s, cut %d: a cache survived the cut", w.Fate, n)
		}
	})
}

func TestDiskTearsWhatWasNotFlushed(t *testing.T) {
	var lost, whole, torn, garbage, reordered bool
	for seed := range uint64(200) {
		w := newWorld(seed)
		d := w.NewDisk("disk", 512, 64, 64)
		w.Fate = Mixed
		w.CutAt(3, PowerCut)
		w.Run(func() {
			_, _ = d.WriteAt(bytes.Repeat([]byte{1}, 512), 0)
			_, _ = d.WriteAt(bytes.Repeat([]byte{2}, 64), 0)
			_ = d.Flush()
		})
		ones, zeroes := bytes.Count(d.view[64:], []byte{1}), bytes.Count(d.view[64:], []byte{0})
		lost = lost || zeroes == 448
		whole = whole || ones == 448
		torn = torn || ones > 0 && ones+zeroes == 448 && zeroes > 0
		garbage = garbage || ones+zeroes < 440
		reordered = reordered || d.view[0] == 1 && d.view[63] == 1
	}
	if !lost || !whole || !torn || !garbage || !reordered {
		t.Errorf("over the seeds: lost %t, whole %t, torn %t, garbage %t, reordered %t; want all", lost, whole, torn, garbage, reordered)
	}
}

func TestDiskThatFailsToFlushForgets(t *testing.T) {
	var kept, gone bool
	for seed := range uint64(40) {
		w := newWorld(seed)
		d := w.NewDisk("disk", 64, 64, 64)
		end := w.Run(func() {
			_, _ = d.WriteAt(bytes.Repeat([]byte{7}, 64), 0)
			w.FailAt(1)
			if err := d.Flush(); !errors.Is(err, ErrInjected) {
				t.Errorf("got %v, want the injected fault", err)
			}
			if err := d.Flush(); err != nil {
				t.Error(err)
			}
		})
		if end != Returned {
			t.Fatalf("got %s", end)
		}
		kept = kept || d.stable[0] == 7
		gone = gone || d.stable[0] == 0
	}
	if !kept || !gone {
		t.Errorf("kept %t, gone %t: want both over the seeds", kept, gone)
	}
}

func TestPowerCutReachesTheEndThroughRecover(t *testing.T) {
	w := newWorld(1)
	w.Fate = Kept
	d := w.NewDir("state")
	unlocked := false
	w.CutAt(2, PowerCut)
	end := w.Run(func() {
		unlock, err := d.Lock()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { unlocked = true; unlock() }()
		func() {
			defer func() { _ = recover() }()
			_ = d.Replace("a", []byte("1"))
		}()
		func() {
			defer func() { _ = recover() }()
			_ = d.Replace("b", []byte("1"))
		}()
	})
	if end != PowerCut || !unlocked || len(d.view) != 0 {
		t.Errorf("got %s, unlocked %t, files %v; want a power cut and nothing written", end, unlocked, d.view)
	}
}

func TestEveryCallCanFail(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(1)
		d := w.NewDir("state")
		disk := w.NewDisk("disk", 4096, 512, 512)
		var failed []error
		w.FailAt(n)
		w.Run(func() {
			note := func(err error) {
				if err != nil {
					failed = append(failed, err)
				}
			}
			note(d.Replace("a", nil))
			_, err := disk.WriteAt(make([]byte, 512), 0)
			note(err)
			note(disk.Flush())
			_, err = disk.ReadAt(make([]byte, 512), 0)
			note(err)
			_, err = d.List()
			note(err)
		})
		if n > w.Calls() {
			if n < 8 {
				t.Errorf("got %d calls, want at least 8", n-1)
			}
			return
		}
		if len(failed) != 1 || !errors.Is(failed[0], ErrInjected) {
			t.Errorf("call %d: got errors %v, want one injected fault", n, failed)
		}
	}
}

func TestLockEndsWithItsProcess(t *testing.T) {
	w := newWorld(1)
	d := w.NewDir("state")
	w.CutAt(1, Killed)
	end := w.Run(func() {
		if _, err := d.Lock(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Lock(); !errors.Is(err, durable.ErrLocked) {
			t.Errorf("second lock: got %v, want ErrLocked", err)
		}
		_ = d.Replace("a", nil)
	})
	if end != Killed {
		t.Fatalf("got %s, want killed", end)
	}
	if _, err := d.Lock(); err != nil {
		t.Errorf("lock after the holder died: %v", err)
	}
}

func TestKilledProcessLosesNothingThatItWrote(t *testing.T) {
	w := newWorld(1)
	d := w.NewDisk("disk", 512, 512, 512)
	w.CutAt(2, Killed)
	w.Run(func() {
		_, _ = d.WriteAt(bytes.Repeat([]byte{9}, 512), 0)
		_ = d.Flush()
	})
	if d.view[0] != 9 || d.stable[0] != 0 {
		t.Errorf("got view %d and medium %d, want the write in the cache", d.view[0], d.stable[0])
	}
	w.Run(func() { _ = w.Reboot(context.Background()) })
	if d.stable[0] != 9 {
		t.Error("an orderly reboot lost a cached write")
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	history := func() ([]string, []byte) {
		w := newWorld(42)
		w.Fate = Mixed
		d := w.NewDisk("disk", 4096, 64, 64)
		for n := range 20 {
			w.CutAt(1+n%3, PowerCut)
			w.Run(func() {
				_, _ = d.WriteAt(bytes.Repeat([]byte{byte(n)}, 1024), int64(n%3)*1024)
				_ = d.Flush()
				_, _ = d.WriteAt(bytes.Repeat([]byte{byte(n)}, 1024), 0)
			})
		}
		return w.Trace(), d.view
	}
	t1, b1 := history()
	t2, b2 := history()
	if !slices.Equal(t1, t2) || !bytes.Equal(b1, b2) {
		t.Error("two histories of one seed differ")
	}
}
