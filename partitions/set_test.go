package partitions

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func runs(s Slot) func() (Slot, error) { return func() (Slot, error) { return s, nil } }

// files makes a set of regular files of one block and returns their paths.
func files(t *testing.T, running func() (Slot, error)) (*Set, map[Slot]map[string]string) {
	t.Helper()
	dir := t.TempDir()
	specs := map[Slot]map[string]string{}
	for _, s := range Slots {
		specs[s] = map[string]string{}
		for _, image := range []string{"root", "boot"} {
			path := filepath.Join(dir, image+"-"+s.String())
			write(t, path, strings.Repeat(s.String(), 4096))
			specs[s][image] = path
		}
	}
	set, err := NewSet(specs, running)
	if err != nil {
		t.Fatal(err)
	}
	return set, specs
}

func TestSetWritesOnlyTheSlotThatDoesNotRun(t *testing.T) {
	for _, running := range Slots {
		set, _ := files(t, runs(running))
		if _, err := set.OpenWrite(running, "root"); err == nil || !strings.Contains(err.Error(), "running slot") {
			t.Errorf("slot %s runs and was opened for writing: %v", running, err)
		}
		d, err := set.OpenWrite(running.Other(), "boot")
		if err != nil {
			t.Fatal(err)
		}
		closing(t, d)
		for _, s := range Slots {
			d, err := set.OpenRead(s, "root")
			if err != nil {
				t.Fatal(err)
			}
			b := AlignedBuffer(4096)
			if _, err := d.ReadAt(b, 0); err != nil || b[0] != s.String()[0] {
				t.Errorf("slot %s: read %q, %v", s, b[:1], err)
			}
			if _, ok := d.(ReadDevice); !ok {
				t.Error("what OpenRead returns has no File")
			}
			closing(t, d)
		}
		if _, err := set.OpenRead(A, "nothing"); err == nil {
			t.Error("an image that is not configured was opened")
		}
	}
}

func TestSetWritesNothingWhileTheRunningSlotIsUnknown(t *testing.T) {
	unknown := errors.New("unknown")
	set, _ := files(t, func() (Slot, error) { return 0, unknown })
	for _, s := range Slots {
		if _, err := set.OpenWrite(s, "root"); !errors.Is(err, unknown) {
			t.Errorf("slot %s: got %v", s, err)
		}
	}
	set, _ = files(t, runs(7))
	for _, s := range Slots {
		if _, err := set.OpenWrite(s, "root"); err == nil {
			t.Errorf("slot %s was opened though slot 7 is said to run", s)
		}
	}
}

func TestSetSeesThroughASecondNameOfARunningPartition(t *testing.T) {
	set, specs := files(t, runs(A))
	if err := os.Remove(specs[B]["root"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(specs[A]["boot"], specs[B]["root"]); err != nil {
		t.Fatal(err)
	}
	if _, err := set.OpenWrite(B, "root"); err == nil || !strings.Contains(err.Error(), "also image boot") {
		t.Errorf("got %v", err)
	}
	// A partition of the running slot that is gone does not keep the idle one from being written.
	if err := os.Remove(specs[A]["boot"]); err != nil {
		t.Fatal(err)
	}
	if _, err := set.OpenWrite(B, "root"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dangling link: got %v", err)
	}
	d, err := set.OpenWrite(B, "boot")
	if err != nil {
		t.Fatal(err)
	}
	closing(t, d)
}

func TestNewSetRefusesSlotsThatDoNotMatch(t *testing.T) {
	type specs = map[Slot]map[string]string
	for name, s := range map[string]specs{
		"empty":          {},
		"one slot":       {A: {"root": "/a"}},
		"other images":   {A: {"root": "/a", "boot": "/b"}, B: {"root": "/c"}},
		"same partition": {A: {"root": "/a"}, B: {"root": "/a"}},
		"relative":       {A: {"root": "a"}, B: {"root": "/b"}},
	} {
		if _, err := NewSet(s, runs(A)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	set, err := NewSet(specs{A: {"root": "/a", "boot": "/b"}, B: {"root": "/c", "boot": "/d"}}, runs(A))
	if err != nil || strings.Join(set.Images(), " ") != "boot root" {
		t.Errorf("got %v, %v", set, err)
	}
}

func TestSlotSpellings(t *testing.T) {
	for _, s := range Slots {
		b, err := s.MarshalText()
		var back Slot
		if err != nil || back.UnmarshalText(b) != nil || back != s || s.Other().Other() != s || s.Other() == s {
			t.Errorf("slot %d: %q, %v", s, b, err)
		}
	}
	for _, bad := range []string{"", "A", "c", "aa", "0"} {
		if _, err := ParseSlot(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if Slot(5).String() != "slot(5)" {
		t.Error(Slot(5).String())
	}
}
