package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/internal/durable"
	"github.com/twinkeel/twinkeel/release"
)

func testStore(t *testing.T, format int) *store {
	t.Helper()
	d, err := durable.OpenDir(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	return &store{dir: d, reads: format, writes: &format, known: &Records{}}
}

func TestDamageIsToldFromAbsence(t *testing.T) {
	s := testStore(t, 1)
	var p Pointer
	if err := s.load("slot-a.json", &p); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) {
		t.Errorf("absent: got %v", err)
	}
	if err := s.save("slot-a.json", &Pointer{Current: 7}); err != nil {
		t.Fatal(err)
	}
	good, err := s.dir.Read("slot-a.json")
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{"empty": {}, "zeros": make([]byte, 100), "not json": []byte("hello"), "other type": []byte("[]")}
	for i := range good[:len(good)-2] {
		damage["truncated at "+string(rune('0'+i%10))] = good[:i]
		flipped := append([]byte(nil), good...)
		flipped[i] ^= 0x01
		if err := s.dir.Replace("slot-a.json", flipped); err != nil {
			t.Fatal(err)
		}
		var p Pointer
		if err := s.load("slot-a.json", &p); !errors.Is(err, errDamaged) && p != (Pointer{Current: 7}) {
			t.Fatalf("bit 0 of byte %d flipped: read as %+v, %v", i, p, err)
		}
	}
	for name, b := range damage {
		if err := s.dir.Replace("slot-a.json", b); err != nil {
			t.Fatal(err)
		}
		if err := s.load("slot-a.json", &p); !errors.Is(err, errDamaged) {
			t.Errorf("%s: got %v, want damaged", name, err)
		}
	}
}

// An older agent carries along what a newer one wrote into the same format.
func TestUnknownFieldsAreKept(t *testing.T) {
	s := testStore(t, 1)
	body := json.RawMessage(`{"current":3,"previous":2,"committed":true,"readsFormat":1,"later":{"a":[1,2]}}`)
	e := envelope{Format: 1, Body: body}
	e.SHA256 = e.sum()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.dir.Replace("slot-b.json", b); err != nil {
		t.Fatal(err)
	}
	if err := s.save("slot-b.json", &Pointer{Current: 4}); err != nil {
		t.Fatal(err)
	}
	got, err := s.dir.Read("slot-b.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), `"later":{"a":[1,2]}`) {
		t.Errorf("the unknown field is gone: %s", got)
	}
	var p Pointer
	if err := s.load("slot-b.json", &p); err != nil || p != (Pointer{Current: 4}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestNewerFormatIsRefusedNotGuessed(t *testing.T) {
	newer := testStore(t, 2)
	if err := newer.save(fileJournal, &Transaction{Phase: Staged}); err != nil {
		t.Fatal(err)
	}
	older := &store{dir: newer.dir, reads: 1, writes: new(1), known: &Records{}}
	var tx Transaction
	err := older.load(fileJournal, &tx)
	if err == nil || absent(err) || errors.Is(err, errDamaged) {
		t.Errorf("got %v, want a refusal that is neither absence nor damage", err)
	}
}

func TestDenialsCoverAttemptsUpToTheOneThatFailed(t *testing.T) {
	s := testStore(t, 1)
	a := &Agent{st: s}
	d := release.DigestOf([]byte("bits"))
	for _, attempt := range []uint64{2, 1} {
		if err := s.deny(Denial{Deployment: d, Attempt: attempt}); err != nil {
			t.Fatal(err)
		}
	}
	for attempt, want := range map[uint64]bool{1: true, 2: true, 3: false} {
		got, err := a.deniedBy(d, attempt)
		if err != nil || (got != nil) != want {
			t.Errorf("attempt %d: got %v, %v, want denied: %v", attempt, got, err, want)
		}
	}
	if list, _ := s.denials(); len(list) != 1 {
		t.Errorf("got %d denials of one deployment, want 1", len(list))
	}
	if found, err := s.undeny(d); err != nil || !found {
		t.Errorf("undeny: got %v, %v", found, err)
	}
}

func TestHistoryIsARing(t *testing.T) {
	s := testStore(t, 1)
	for i := range uint64(maxHistory + 20) {
		// Each is written twice, as after a crash between history and journal.
		for range 2 {
			if err := s.record(HistoryEntry{Seq: i + 1, Kind: "update"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h, err := s.history()
	if err != nil || len(h) != maxHistory || h[0].Seq != 21 || h[len(h)-1].Seq != maxHistory+20 {
		t.Errorf("got %d entries from %d, %v", len(h), h[0].Seq, err)
	}
}
