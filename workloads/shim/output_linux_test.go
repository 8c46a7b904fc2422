package shim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheLogKeepsTheNewestAndNoMoreThanItsLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	const limit = 1000
	r, err := openRing(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for i := range 200 {
		b := bytes.Repeat([]byte{byte('a' + i%26)}, i%97)
		all.Write(b)
		if n, err := r.Write(b); n != len(b) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		if i == 100 { // its shim was killed, and another one goes on
			if r, err = openRing(path, limit); err != nil {
				t.Fatal(err)
			}
		}
	}
	older, err1 := os.ReadFile(path + ".1")
	newer, err2 := os.ReadFile(path)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	kept := append(older, newer...)
	if len(kept) > limit || len(kept) < limit/2 || !bytes.HasSuffix(all.Bytes(), kept) {
		t.Errorf("got %d bytes, the end of all: %t, want %d to %d of them", len(kept), bytes.HasSuffix(all.Bytes(), kept), limit/2, limit)
	}
}

func TestALogThatCannotBeWrittenStopsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	r, err := openRing(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.f.Close() // as a disk that is gone
	for range 5 {
		if n, err := r.Write(make([]byte, 80)); n != 80 || err != nil {
			t.Errorf("got %d, %v, want that nobody notices", n, err)
		}
	}
}

func TestALogIsNoLinkToElsewhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "output")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := openRing(path, 100); err == nil {
		t.Error("a link was followed")
	}
}

func TestEachLineBeginsWithItsTime(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 11, 21, 12, 0, 0, 5e6, time.UTC)
	l := &lines{to: &out, now: func() time.Time { return at }}
	for _, part := range []string{"one\ntw", "o\n", "\n", "thr", "ee"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		at = at.Add(time.Second)
	}
	want := "2026-11-21T12:00:00.005Z one\n2026-11-21T12:00:00.005Z two\n2026-11-21T12:00:02.005Z \n2026-11-21T12:00:03.005Z three"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestPausesGrowToAMinute(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 5: 3200 * time.Millisecond, 10: time.Minute, 1 << 30: time.Minute} {
		for _, chance := range []float64{0, 0.5, 1} {
			if got := pause(n, chance); got < want*3/4 || got > want*5/4 {
				t.Errorf("pause %d, chance %g: got %s, want about %s", n, chance, got, want)
			}
		}
	}
}

func TestACheckKeepsTheFirstWordsOnly(t *testing.T) {
	l := &limited{most: 10}
	for range 3 {
		if n, err := l.Write([]byte(strings.Repeat("x", 7))); n != 7 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if len(l.b) != 10 {
		t.Errorf("got %d bytes, want 10", len(l.b))
	}
}
