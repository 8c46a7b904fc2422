package agent

import (
	"fmt"
	"testing"
)

// What a reader does to what it read reaches no other reader.
func TestRecordsAreNotSharedByTheirReaders(t *testing.T) {
	s := testStore(t, 1)
	want := &Transaction{Seq: 1, Phase: Reverting, Verdict: &Reason{Code: "a", Text: "b"}, Evidence: []string{"x", "y"}}
	if err := s.save(fileJournal, want); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got, err := s.journal()
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got.Seq, *got.Verdict, got.Evidence) != fmt.Sprint(want.Seq, *want.Verdict, want.Evidence) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		got.Verdict.Code, got.Evidence[0] = "changed", "changed"
		_ = append(got.Evidence[:1], "changed")
	}
}

// Nor does what is done to a map, or to what its values point to.
func TestMapsOfRecordsAreNotSharedByTheirReaders(t *testing.T) {
	s := testStore(t, 1)
	want := &appChoices{Apps: map[string]appChoice{"web": {Hold: &Hold{Reason: "a"}, Grants: []string{"x"}}}}
	if err := s.save(fileApps, want); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var got appChoices
		if err := s.load(fileApps, &got); err != nil {
			t.Fatal(err)
		}
		web := got.Apps["web"]
		if len(got.Apps) != 1 || web.Hold == nil || web.Hold.Reason != "a" || len(web.Grants) != 1 || web.Grants[0] != "x" {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		web.Hold.Reason, web.Grants[0] = "changed", "changed"
		got.Apps["db"] = web
	}
}

// However many records there were, those read last are what they are.
func TestRecordsAreBounded(t *testing.T) {
	r := &Records{}
	s := testStore(t, 1)
	s.known = r
	for i := range uint64(2 * maxRecords) {
		if err := s.save(fileHost, &hostRecord{Epoch: i}); err != nil {
			t.Fatal(err)
		}
		var h hostRecord
		if err := s.load(fileHost, &h); err != nil || h.Epoch != i {
			t.Fatalf("got %+v, %v, want epoch %d", h, err, i)
		}
		if n := len(r.made) + len(r.before); n > maxRecords {
			t.Fatalf("got %d records, want at most %d", n, maxRecords)
		}
	}
}
